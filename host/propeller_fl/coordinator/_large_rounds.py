"""Rounds on models in parts: whether one may be opened, and the model that comes of its files."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.config import LargeConfig
from propeller_fl.errors import MessageError, StoreError, StrategyError
from propeller_fl.learn import State, strategy
from propeller_fl.rounds import Opening, Round
from propeller_fl.store import Columns, UpdateFiles, VectorFile, manifest_of_file, write_vector
from propeller_fl.wire import Manifest, Mode, Reason, RoundStart, size_of

MAX_FILES: Final = 256
"""Updates of one round that are files: all are open at once when a model is made of them."""

_ROW_BYTES: Final = 4 * 1024 * 1024  # of all updates at a time,
_COLUMNS: Final = 16_384  # in multiples of these: so the mean has the bits of the mean of the whole


@dataclass(frozen=True, slots=True)
class LargeRoom:
    """What there is for the files of updates; ``large`` is None where none are kept."""

    large: LargeConfig | None
    open_rounds: Collection[Round]

    def refusal(self, start: RoundStart, manifest: Manifest) -> tuple[str, str] | None:
        """Why a round that trains this model cannot be opened. Raises :class:`StrategyError`."""
        if self.large is None:
            return (
                Reason.TOO_LARGE,
                f"model {start.model_uri} is published in parts, and this coordinator keeps no "
                "files of updates",
            )
        if not strategy(start.strategy, start.strategy_args).by_columns:
            return (
                Reason.BAD_FIELD,
                f"strategy {start.strategy} works on whole models or remembers some, and "
                f"{start.model_uri} is published in parts; fedavg, fedprox, median and "
                "trimmed_mean work on those",
            )
        if start.k_of_n > MAX_FILES:
            return (
                Reason.BAD_FIELD,
                f"k_of_n is {start.k_of_n}, and at most {MAX_FILES} updates in parts make a model",
            )
        limit = self.large.max_updates_bytes
        taken = sum(_needed(round_.opening) for round_ in self.open_rounds)
        needed = start.k_of_n * manifest.size_bytes
        if taken + needed > limit:
            return (
                Reason.TOO_LARGE,
                f"{start.k_of_n} updates of {manifest.size_bytes} bytes, with {taken} bytes of "
                f"other rounds, are more than the {limit} that are kept (large.max_updates_bytes)",
            )
        return None


def _needed(opening: Opening) -> int:
    if not opening.in_parts or opening.start.mode is Mode.EVALUATE:
        return 0
    return 4 * size_of(dict(opening.base_shapes)) * opening.start.k_of_n


def model_of_files(round_: Round, files: UpdateFiles, part_bytes: int) -> tuple[Path, Manifest]:
    """Let the strategy make a model of the whole files of a round, some columns at a time, in the
    order of proplet ids. The file is synced, and has not its own name yet; the manifest has no
    version yet.

    Raises :class:`ValueError` when there is no such model, :class:`StoreError`, :class:`OSError`.
    """
    opening = round_.opening
    start, shapes = opening.start, dict(opening.base_shapes)
    size = size_of(shapes)
    proplets = sorted(round_.accepted)
    weights = [round_.accepted[proplet].num_samples for proplet in proplets]
    width = _COLUMNS * max(1, _ROW_BYTES // (4 * _COLUMNS * len(proplets)))
    path = files.making(start.round_id)
    for proplet in proplets:
        if not files.update(start.round_id, proplet).exists():
            raise ValueError(f"the file of the update of {proplet} is gone")

    def blocks() -> Iterator[NDArray[np.float32]]:
        chosen = strategy(start.strategy, start.strategy_args)
        with contextlib.ExitStack() as stack:
            opened = [
                stack.enter_context(VectorFile(files.update(start.round_id, proplet), shapes))
                for proplet in proplets
            ]
            for first in range(0, size, width):
                last = min(first + width, size)
                base = np.full(last - first, np.nan, np.float32)
                base.setflags(write=False)
                columns = Columns(opened, weights, size, first, last)
                with np.errstate(all="ignore"):  # what is not finite is refused
                    made = chosen.aggregate(base, columns, State())
                    block = np.asarray(made.model).astype(np.float32)
                if made.state or block.shape != base.shape:
                    raise StrategyError(f"strategy {start.strategy} does not work by columns")
                if not np.isfinite(block).all():
                    raise StrategyError("parameters of the new model are not finite")
                yield block

    try:
        write_vector(path, shapes, blocks())
        return path, manifest_of_file(path, 0, part_bytes)
    except (StoreError, OSError):
        raise
    except (StrategyError, MessageError) as err:
        raise ValueError(str(err)) from err
    except Exception as err:  # perhaps somebody else's code: it must not end the coordinator
        raise ValueError(f"strategy {start.strategy} failed: {err}") from err
