"""Federated learning that runs on microcontrollers as well as on desktops."""

from __future__ import annotations

import os

# What we give numpy's BLAS is small. Its threads would wait for one another longer
# than they work, and where they meet changes with the number of cores. It looks when numpy is
# loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
