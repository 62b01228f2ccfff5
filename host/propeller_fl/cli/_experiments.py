"""`propeller-fl experiment …`"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from propeller_fl.cli import _experiment_reports as reports
from propeller_fl.cli._context import (
    Context,
    as_json,
    fails_clearly,
    pass_context,
    print_json,
    print_table,
)
from propeller_fl.cli._round_store import has_rounds, open_rounds
from propeller_fl.cli._round_story import stamp
from propeller_fl.cli._services import run_until_stopped
from propeller_fl.deployment import Role
from propeller_fl.errors import RequestError
from propeller_fl.log import printable
from propeller_fl.operator import Operator, parse_experiment
from propeller_fl.store import (
    ExperimentStore,
    SavedExperiment,
    SavedRound,
    open_to_read,
)
from propeller_fl.wire import (
    Command,
    ExperimentPhase,
    ExperimentStart,
    ExperimentStatus,
    Mode,
)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_GOOD = (ExperimentPhase.COMPLETE, ExperimentPhase.STOPPED)


@click.group("experiment")
def group() -> None:
    """Run experiments: many rounds, until a rule says that it is enough."""


@group.command()
@click.argument("file", type=_FILE)
@click.option("--id", "experiment_id", help="Default: the file's, or its name and the time.")
@click.option("--rounds", type=click.IntRange(min=1), help="Instead of stop.rounds of the file.")
@click.option("--watch/--no-watch", default=False, help="Wait for its end.", show_default=True)
@as_json
@pass_context
@fails_clearly
def start(
    context: Context,
    file: Path,
    experiment_id: str | None,
    rounds: int | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Start the experiment that the TOML FILE describes; print its id.

    It runs in the services, whatever becomes of this command. With --watch, the status is 0 when it
    ends well.
    """
    message = read_experiment(file, experiment_id, rounds)
    with context.operator() as operator:
        operator.start_experiment(message)
        if not watch:
            click.echo(message.experiment_id)
            return
        _follow(operator, message.experiment_id, None, as_json)


@group.command()
@click.argument("experiment_id")
@click.option("--timeout-s", type=float, help="Default: for ever.")
@as_json
@pass_context
@fails_clearly
def watch(context: Context, experiment_id: str, timeout_s: float | None, as_json: bool) -> None:
    """Follow an experiment until it ends. Status 0 when it ends well."""
    with context.operator() as operator:
        _follow(operator, experiment_id, timeout_s, as_json)


@group.command()
@click.argument("experiment_id")
@pass_context
@fails_clearly
def pause(context: Context, experiment_id: str) -> None:
    """Begin no more rounds; the one under way ends."""
    _command(context, experiment_id, Command.PAUSE)


@group.command()
@click.argument("experiment_id")
@pass_context
@fails_clearly
def resume(context: Context, experiment_id: str) -> None:
    """Go on with an experiment that is paused."""
    _command(context, experiment_id, Command.RESUME)


@group.command()
@click.argument("experiment_id")
@pass_context
@fails_clearly
def stop(context: Context, experiment_id: str) -> None:
    """End an experiment for good; the round under way still counts."""
    _command(context, experiment_id, Command.STOP)


@group.command("list")
@click.option("--limit", default=20, show_default=True)
@as_json
@pass_context
@fails_clearly
def list_(context: Context, limit: int, as_json: bool) -> None:
    """The newest experiments, from their store."""
    with open_experiments(context) as store:
        found = [(saved, store.rounds(saved.start.experiment_id)) for saved in store.newest(limit)]
    if as_json:
        print_json([summary(saved, rounds) for saved, rounds in found])
        return
    print_table(
        ["experiment", "started", "phase", "rounds", "why"],
        [
            [
                saved.start.experiment_id,
                stamp(saved.created_at_s),
                saved.phase,
                f"{trained(rounds)}/{saved.start.stop.rounds}",
                saved.detail,
            ]
            for saved, rounds in found
        ],
    )


@group.command()
@click.argument("experiment_id")
@as_json
@pass_context
@fails_clearly
def show(context: Context, experiment_id: str, as_json: bool) -> None:
    """An experiment round by round, from its store. Neither services nor broker need run."""
    with open_experiments(context) as store:
        saved = find_experiment(store, experiment_id)
        rounds = store.rounds(experiment_id)
    if as_json:
        print_json(summary(saved, rounds) | {"rounds": [round_summary(one) for one in rounds]})
        return
    why = f": {saved.detail}" if saved.detail else ""
    click.echo(printable(f"{experiment_id}  {saved.phase}{why}"))
    print_table(
        ["round", "began", "ended", "updates", "seconds", "metrics"],
        [_row(one) for one in rounds],
    )


@group.command()
@click.argument("experiment_ids", nargs=-1, required=True, metavar="ID ID…")
@click.option("--metric", default="accuracy", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A picture: .png, .svg or .pdf."
)
@as_json
@pass_context
@fails_clearly
def compare(
    context: Context,
    experiment_ids: tuple[str, ...],
    metric: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """One metric of several experiments by round: a table, and with -o all curves in one picture.

    It is that of evaluations, where an experiment has any, else of training.
    """
    curves = []
    with open_experiments(context) as store:
        for experiment_id in experiment_ids:
            find_experiment(store, experiment_id)
            curves.append(reports.curve(experiment_id, store.rounds(experiment_id), metric))
    if output is not None:
        reports.draw(curves, metric, output)
    if as_json:
        print_json(
            {
                one.name: {
                    "evaluation": one.is_evaluation,
                    "points": [list(point) for point in zip(one.numbers, one.values, strict=True)],
                }
                for one in curves
            }
        )
        return
    by_round = [dict(zip(one.numbers, one.values, strict=True)) for one in curves]
    numbers = sorted({number for values in by_round for number in values})
    print_table(
        ["round", *(one.name for one in curves)],
        [
            [number, *(f"{values[number]:.6g}" if number in values else "" for values in by_round)]
            for number in numbers
        ],
    )


@group.command()
@click.argument("experiment_id")
@as_json
@pass_context
@fails_clearly
def proplets(context: Context, experiment_id: str, as_json: bool) -> None:
    """How each proplet did: how often it was asked and answered, its samples, what was refused."""
    _, _, records = _whole(context, experiment_id)
    if as_json:
        print_json(records)
        return
    print_table(
        ["proplet", "asked", "answered", "missed", "samples", "share", "seconds", "refused"],
        [
            [
                record["proplet_id"],
                record["asked"],
                record["answered"],
                record["missed"],
                record["samples"],
                f"{record['share']:.1%}",
                "" if record["mean_seconds"] is None else f"{record['mean_seconds']:.2f}",
                " ".join(f"{reason}: {count}" for reason, count in record["refused"].items()),
            ]
            for record in records
        ],
    )


@group.command()
@click.argument("experiment_id")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json"]),
    help="Default: by the name of the file; else csv.",
)
@click.option("--proplets", is_flag=True, help="Of CSV: a row a proplet, not a round.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: standard output.")
@pass_context
@fails_clearly
def export(
    context: Context, experiment_id: str, form: str | None, proplets: bool, output: Path | None
) -> None:
    """All that is known of an experiment, for other tools. JSON has rounds and proplets."""
    saved, rounds, records = _whole(context, experiment_id)
    if (form or (output.suffix[1:] if output else "")) == "json":
        document = summary(saved, rounds) | {
            "rounds": [round_summary(one) for one in rounds],
            "proplets": records,
        }
        text = json.dumps(document, indent=2) + "\n"
    else:
        text = reports.proplets_csv(records) if proplets else reports.rounds_csv(rounds)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@group.command()
@pass_context
@fails_clearly
def serve(context: Context) -> None:
    """Run the experiments' service alone: it asks for rounds as the experiments want them."""
    run_until_stopped(context.settings(), Role.EXPERIMENTS)


def read_experiment(
    file: Path, experiment_id: str | None = None, rounds: int | None = None
) -> ExperimentStart:
    """The experiment that a TOML file describes. Raises :class:`RequestError` for a file that is
    none, :class:`MessageError` for what cannot be."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise RequestError(f"{file}: {err}", hint="docs/experiments.md has examples") from err
    return parse_experiment(
        text, str(file), name=file.stem, experiment_id=experiment_id, rounds=rounds
    )


@contextlib.contextmanager
def open_experiments(context: Context) -> Iterator[ExperimentStore]:
    """The store of experiments, to read. Raises :class:`RequestError` when there is none."""
    path = context.settings().data_dir / "experiments" / "experiments.db"
    if not path.exists():
        raise RequestError(
            f"there is no store of experiments at {path}",
            hint="name its directory with --data-dir",
        )
    with contextlib.closing(ExperimentStore(open_to_read(path))) as store:
        yield store


def _whole(
    context: Context, experiment_id: str
) -> tuple[SavedExperiment, list[SavedRound], list[dict[str, Any]]]:
    """An experiment, its rounds and its proplets; of these more where the coordinator's store is
    at hand."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(open_experiments(context))
        saved, rounds = find_experiment(store, experiment_id), store.rounds(experiment_id)
        settings = context.settings()
        coordinator = None
        if has_rounds(settings):
            coordinator = stack.enter_context(contextlib.closing(open_rounds(settings)))
        return saved, rounds, reports.proplet_records(rounds, coordinator)


def find_experiment(store: ExperimentStore, experiment_id: str) -> SavedExperiment:
    """Raises :class:`RequestError` when there is none of that id."""
    saved = store.find(experiment_id)
    if saved is None:
        raise RequestError(
            f"there is no experiment {experiment_id} here",
            hint="`propeller-fl experiment list` shows those there are",
        )
    return saved


def trained(rounds: list[SavedRound]) -> int:
    """How many rounds that train have ended."""
    return sum(one.start.mode is Mode.TRAIN and one.complete is not None for one in rounds)


def summary(saved: SavedExperiment, rounds: list[SavedRound]) -> dict[str, Any]:
    """An experiment as JSON."""
    return {
        "experiment_id": saved.start.experiment_id,
        "phase": saved.phase,
        "reason": saved.reason,
        "detail": saved.detail,
        "started_at": stamp(saved.created_at_s),
        "changed_at": stamp(saved.changed_at_s),
        "trained": trained(rounds),
        "start": saved.start.document(),
    }


def round_summary(one: SavedRound) -> dict[str, Any]:
    """A round of it as JSON."""
    complete = one.complete
    return {
        "round_id": one.start.round_id,
        "mode": one.start.mode,
        "began_at": stamp(one.begun_at_s),
        "seconds": round(one.ended_at_s - one.begun_at_s, 3) if complete else None,
        "hyperparams": dict(one.start.hyperparams),
        "participants": list(one.start.participants),
        "complete": json.loads(complete.encode()) if complete else None,
    }


def _row(one: SavedRound) -> list[Any]:
    complete = one.complete
    if complete is None:
        return [one.start.round_id, stamp(one.begun_at_s), "under way", "", "", ""]
    metrics = " ".join(f"{name} {value:.4g}" for name, value in complete.metrics.items())
    return [
        one.start.round_id,
        stamp(one.begun_at_s),
        complete.status,
        f"{complete.num_updates}/{len(one.start.participants)}",
        f"{one.ended_at_s - one.begun_at_s:.1f}",
        metrics or complete.detail,
    ]


def _command(context: Context, experiment_id: str, command: Command) -> None:
    with context.operator() as operator:
        status = operator.command_experiment(experiment_id, command)
    click.echo(_line(status))
    obeyed = {
        Command.PAUSE: status.phase is ExperimentPhase.PAUSED,
        Command.RESUME: status.phase is ExperimentPhase.RUNNING,
        Command.STOP: status.phase in (ExperimentPhase.STOPPING, ExperimentPhase.STOPPED),
    }[command]
    sys.exit(0 if obeyed else 1)


def _follow(operator: Operator, experiment_id: str, timeout_s: float | None, as_json: bool) -> None:
    good = False
    for status in operator.watch_experiment(experiment_id, timeout_s or float("inf")):
        if as_json:
            click.echo(status.encode())
        else:
            click.echo(printable(f"{time.strftime('%H:%M:%S')}  {_line(status)}"))
        good = status.phase in _GOOD
    sys.exit(0 if good else 1)


def _line(status: ExperimentStatus) -> str:
    parts = [f"{status.phase}: {status.rounds} of {status.of_rounds} rounds"]
    parts += [f"{status.round_id} is under way"] if status.round_id else []
    parts += [f"{name} {value:.4g}" for name, value in status.metrics.items()]
    parts += [f"held out: {name} {value:.4g}" for name, value in status.evaluation.items()]
    parts += [status.detail] if status.detail else []
    return ", ".join(parts)
