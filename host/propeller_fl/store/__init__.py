"""What survives: the coordinator's rounds, the manager's launches, the directory of models."""

from __future__ import annotations

from propeller_fl.store._launches import LaunchStore
from propeller_fl.store._models_dir import ModelsDir, StoredModel
from propeller_fl.store._rounds import KeptUpdate, Owed, RoundStore, StoryLine, check_store

__all__ = [
    "KeptUpdate",
    "LaunchStore",
    "ModelsDir",
    "Owed",
    "RoundStore",
    "StoredModel",
    "StoryLine",
    "check_store",
]
