"""What the rounds of an experiment add up to: curves, tables, and how each proplet did."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from propeller_fl.cli._round_story import stamp
from propeller_fl.demo import drawing
from propeller_fl.errors import ConfigError, RequestError
from propeller_fl.store import RoundStore, SavedRound
from propeller_fl.wire import Mode


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of an experiment by round, of evaluations if ``is_evaluation``."""

    name: str
    numbers: tuple[int, ...]
    values: tuple[float, ...]
    is_evaluation: bool


def curve(name: str, rounds: Iterable[SavedRound], metric: str) -> Curve:
    """``metric`` of the evaluations that report it; where none does, of training.

    Raises :class:`RequestError` when no round reports it.
    """
    points: dict[Mode, list[tuple[int, float]]] = {mode: [] for mode in Mode}
    known: set[str] = set()
    for number, one in _numbered(rounds):
        metrics = one.complete.metrics if one.complete else {}
        known |= metrics.keys()
        if metric in metrics:
            points[one.start.mode].append((number, metrics[metric]))
    found = points[Mode.EVALUATE] or points[Mode.TRAIN]
    if not found:
        raise RequestError(
            f"no round of {name} reports {metric}",
            hint=f"they report {', '.join(sorted(known)) or 'nothing yet'}",
        )
    numbers, values = zip(*found, strict=True)
    return Curve(name, numbers, values, bool(points[Mode.EVALUATE]))


def draw(curves: Sequence[Curve], metric: str, picture: Path) -> None:
    """All curves in one picture, whose suffix says the format.

    Raises :class:`ConfigError` when what draws is not installed, or cannot draw such a file.
    """
    with drawing():
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
        from matplotlib.ticker import MaxNLocator
    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120)
    # told apart by more than colour
    for one, marker in zip(curves, "osv^D*PX" * len(curves), strict=False):
        kind = "held out" if one.is_evaluation else "training"
        axes.plot(one.numbers, one.values, marker=marker, label=f"{one.name}, {kind}")
    axes.set(xlabel="round", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    try:
        figure.savefig(picture)
    except ValueError as err:
        raise ConfigError(f"{picture}: {err}", hint="name it .png, .svg or .pdf") from err
    finally:
        pyplot.close(figure)


@dataclass(slots=True)
class PropletRecord:
    """How a proplet did. ``samples``, ``seconds`` (from the opening of a round to its update, in
    all) and ``refused`` come from the coordinator's store; ``timed`` updates are in ``seconds``."""

    proplet_id: str
    asked: int = 0
    answered: int = 0
    samples: int = 0
    timed: int = 0
    seconds: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def missed(self) -> int:
        """Rounds that ended without it."""
        return self.asked - self.answered

    def document(self, all_samples: int) -> dict[str, Any]:
        """As JSON; ``share`` is that of all samples that the experiment has trained on."""
        return {
            "proplet_id": self.proplet_id,
            "asked": self.asked,
            "answered": self.answered,
            "missed": self.missed,
            "samples": self.samples,
            "share": round(self.samples / all_samples, 6) if all_samples else 0.0,
            "mean_seconds": round(self.seconds / self.timed, 3) if self.timed else None,
            "refused": dict(sorted(self.refused.items())),
        }


def proplet_records(
    rounds: Iterable[SavedRound], coordinator: RoundStore | None
) -> list[dict[str, Any]]:
    """How each proplet did in the rounds that train and have ended, by id. Without the
    coordinator's store it is not known how many samples it had, how long it took and what was
    refused; nor is it of rounds that the coordinator has forgotten."""
    records: dict[str, PropletRecord] = {}
    for one in rounds:
        if one.complete is None or one.start.mode is Mode.EVALUATE:
            continue
        missing = set(one.complete.missing)
        for name in one.start.participants:
            record = records.setdefault(name, PropletRecord(name))
            record.asked += 1
            record.answered += name not in missing
        if coordinator is not None:
            _add_details(records, one.start.round_id, coordinator)
    all_samples = sum(record.samples for record in records.values())
    return [records[name].document(all_samples) for name in sorted(records)]


def _add_details(records: Mapping[str, PropletRecord], round_id: str, store: RoundStore) -> None:
    round_ = store.load_round(round_id)
    if round_ is None:
        return
    for name, receipt in round_.accepted.items():
        if name in records:
            records[name].samples += receipt.num_samples
    for line in store.story(round_id):
        record = records.get(line.proplet_id)
        if record is None:
            continue
        if line.event == "accepted":
            record.timed += 1
            record.seconds += line.at_s - round_.opening.opened_at_s
        else:
            reason = line.detail.partition(":")[0]
            record.refused[reason] = record.refused.get(reason, 0) + 1


def rounds_csv(rounds: Sequence[SavedRound]) -> str:
    """A row a round, those under way too; a column for each metric and hyperparameter there is."""
    metrics = {name: None for one in rounds if one.complete for name in one.complete.metrics}
    params = {name: None for one in rounds for name in one.start.hyperparams}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        "round_id mode number model_uri began_at seconds status participants updates missing "
        "refused samples update_bytes model_topic detail".split()
        + [f"param.{name}" for name in params]
        + [f"metric.{name}" for name in metrics]
    )
    for number, one in _numbered(rounds):
        start, complete = one.start, one.complete
        row: list[Any] = [start.round_id, start.mode, number, start.model_uri]
        row += [stamp(one.begun_at_s)]
        if complete is None:
            row += ["", "under way", len(start.participants)] + [""] * 7
        else:
            seconds = f"{one.ended_at_s - one.begun_at_s:.3f}"
            row += [seconds, complete.status, len(start.participants), complete.num_updates]
            row += [len(complete.missing), sum(complete.refused.values()), complete.total_samples]
            row += [complete.update_bytes, complete.model_topic, complete.detail]
        row += [start.hyperparams.get(name, "") for name in params]
        row += [complete.metrics.get(name, "") if complete else "" for name in metrics]
        writer.writerow([_harmless(cell) for cell in row])
    return text.getvalue()


def proplets_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """A row a proplet; a column for each reason of a refusal there is."""
    reasons = sorted({reason for record in records for reason in record["refused"]})
    plain = "proplet_id asked answered missed samples share mean_seconds".split()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(plain + [f"refused.{reason}" for reason in reasons])
    for record in records:
        cells = ["" if record[name] is None else record[name] for name in plain]
        cells += [record["refused"].get(reason, 0) for reason in reasons]
        writer.writerow([_harmless(cell) for cell in cells])
    return text.getvalue()


def _numbered(rounds: Iterable[SavedRound]) -> Iterable[tuple[int, SavedRound]]:
    """With the number of the round that trains, which an evaluation after it shares."""
    number = 0
    for one in rounds:
        number += one.start.mode is Mode.TRAIN
        yield number, one


def _harmless(cell: Any) -> Any:
    """A spreadsheet takes a text that begins like this for a formula, and runs it."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell
