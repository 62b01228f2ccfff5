"""What survives: the coordinator's rounds, the manager's launches, the directory of models."""

from __future__ import annotations

from propeller_fl.store._check import (
    FilesReport,
    ModelsReport,
    check_experiments,
    check_launches,
    check_models,
    check_rounds,
    check_update_files,
    made_models,
)
from propeller_fl.store._database import open_to_read
from propeller_fl.store._experiments import ExperimentStore, SavedExperiment, SavedRound
from propeller_fl.store._large import (
    check_file,
    check_finite,
    copy_durably,
    manifest_of_file,
    shapes_in_file,
    tensor_bytes,
    write_large,
)
from propeller_fl.store._launches import LaunchState, LaunchStore, SavedLaunch
from propeller_fl.store._local_rounds import LocalRoundStore
from propeller_fl.store._model_files import (
    ModelFormat,
    convert,
    is_document,
    read_model_file,
)
from propeller_fl.store._models_dir import ModelsDir, StoredModel, model_fault
from propeller_fl.store._postgres_address import PostgresAddress
from propeller_fl.store._rounds import MAX_STOPPED, RoundStore
from propeller_fl.store._rounds_pruning import PruneBudget
from propeller_fl.store._rounds_rows import (
    KeptState,
    KeptUpdate,
    KnownRound,
    NewUpdate,
    Owed,
    StoryLine,
)
from propeller_fl.store._rounds_updates import KeptUpdates
from propeller_fl.store._trouble import StoreTrouble
from propeller_fl.store._update_files import (
    Columns,
    ModelFile,
    UpdateFileRows,
    UpdateFiles,
    facts_of,
)
from propeller_fl.store._vector_file import VectorFile, write_vector

__all__ = [
    "MAX_STOPPED",
    "Columns",
    "ExperimentStore",
    "FilesReport",
    "KeptState",
    "KeptUpdate",
    "KeptUpdates",
    "KnownRound",
    "LaunchState",
    "LaunchStore",
    "LocalRoundStore",
    "ModelFile",
    "ModelFormat",
    "ModelsDir",
    "ModelsReport",
    "NewUpdate",
    "Owed",
    "PostgresAddress",
    "PruneBudget",
    "RoundStore",
    "SavedExperiment",
    "SavedLaunch",
    "SavedRound",
    "StoreTrouble",
    "StoredModel",
    "StoryLine",
    "UpdateFileRows",
    "UpdateFiles",
    "VectorFile",
    "check_experiments",
    "check_file",
    "check_finite",
    "check_launches",
    "check_models",
    "check_rounds",
    "check_update_files",
    "convert",
    "copy_durably",
    "facts_of",
    "is_document",
    "made_models",
    "manifest_of_file",
    "model_fault",
    "open_to_read",
    "read_model_file",
    "shapes_in_file",
    "tensor_bytes",
    "write_large",
    "write_vector",
]
