"""Small real data sets that come with the package, and ways to share them out among proplets.

    digits   UCI Optical Recognition of Handwritten Digits: 8×8 images, 10 classes
    tumors   UCI Breast Cancer Wisconsin (Diagnostic): 3 features, 2 classes

Both are CC BY 4.0; ``README.md`` beside this file names their sources and authors and says how the
arrays were derived. A third is read from where it is installed, and has its parts already:

    activity   recordings of ten people's wrists: 6 channels, 7 exercises
 Everything here is deterministic: the same seed gives the same parts.
"""

from __future__ import annotations

from propeller_fl.datasets._activity import SUBJECTS, load_activity
from propeller_fl.datasets._dataset import NAMES, Dataset, load
from propeller_fl.datasets._parts import dirichlet, iid, shards, split

__all__ = [
    "NAMES",
    "SUBJECTS",
    "Dataset",
    "dirichlet",
    "iid",
    "load",
    "load_activity",
    "shards",
    "split",
]
