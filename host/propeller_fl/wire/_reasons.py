"""Why something was refused: short stable codes, the same in acknowledgements, logs and metrics."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The code that travels; the sentence beside it is for people and may change."""

    # the document itself
    UNDECODABLE = "undecodable"
    TOO_LARGE = "too_large"
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"
    BAD_ID = "bad_id"
    # a round that was asked for
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_STRATEGY = "unknown_strategy"
    ROUND_ID_USED = "round_id_used"
    TOO_MANY_ROUNDS = "too_many_rounds"
    STOPPED = "stopped"
    # an experiment that was asked for
    EXPERIMENT_ID_USED = "experiment_id_used"
    TOO_MANY_EXPERIMENTS = "too_many_experiments"
    # an update
    UNKNOWN_ROUND = "unknown_round"
    ROUND_CLOSED = "round_closed"
    NOT_PARTICIPANT = "not_participant"
    DUPLICATE = "duplicate"
    STALE_BASE_MODEL = "stale_base_model"
    MISSING_TENSOR = "missing_tensor"
    EXTRA_TENSOR = "extra_tensor"
    WRONG_SHAPE = "wrong_shape"
    NOT_FINITE = "not_finite"
    BAD_NUM_SAMPLES = "bad_num_samples"
    IDENTITY = "identity"
    INCOMPLETE = "incomplete"
