"""`propeller-fl round …`"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import click
from click.core import ParameterSource

from propeller_fl.cli._context import (
    Context,
    as_json,
    fails_clearly,
    named_values,
    pass_context,
    print_json,
    print_table,
)
from propeller_fl.cli._round_store import open_rounds
from propeller_fl.cli._round_story import stamp, tell
from propeller_fl.errors import RequestError
from propeller_fl.learn import strategy_arguments, strategy_names
from propeller_fl.log import printable
from propeller_fl.operator import Operator, RoundEvent
from propeller_fl.rounds import Round
from propeller_fl.store import KnownRound, LaunchStore, SavedLaunch, open_to_read
from propeller_fl.wire import (
    LaunchReport,
    Outcome,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    RoundStop,
    UpdateFormat,
)

_WATCH_MARGIN_S = 30.0  # past the deadline, for aggregation and the way here


@click.group("round")
def group() -> None:
    """Start, stop, watch and look into rounds."""


@group.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--round-id", help="Default: made from the time.")
@click.option("--model-uri", help="Default: the newest global model.")
@click.option("--image", help="Wasm image: builtin:softmax, a path, oci://…")
@click.option("--participants", metavar="ID,ID,…")
@click.option("--k", "k_of_n", type=int, help="Updates to wait for; default: all participants.")
@click.option("--timeout-s", type=float, default=60.0, show_default=True)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A hyperparameter.")
@click.option(
    "--update-format",
    type=click.Choice([form.value for form in UpdateFormat]),
    help="What proplets write their updates in; default: json. Boards want a small one.",
)
@click.option(
    "--min-updates", type=int, default=1, show_default=True, help="Fewest that make a model."
)
@click.option("--strategy", default="fedavg", show_default=True, help="How they become one.")
@click.option(
    "--strategy-arg", "strategy_args", multiple=True, metavar="NAME=VALUE", help="… and with what."
)
@click.option("--watch/--no-watch", default=True, help="Wait for its end.", show_default=True)
@as_json
@pass_context
@fails_clearly
def start(
    context: Context,
    file: Any,
    round_id: str | None,
    model_uri: str | None,
    image: str | None,
    participants: str | None,
    k_of_n: int | None,
    timeout_s: float,
    params: tuple[str, ...],
    update_format: str | None,
    min_updates: int,
    strategy: str,
    strategy_args: tuple[str, ...],
    watch: bool,
    as_json: bool,
) -> None:
    """Start a round from FILE (a RoundStart message, - for standard input) or from options.

    Ends with status 0 when the round yields a model.
    """
    if file is not None and _describes_a_round(click.get_current_context()):
        raise click.UsageError("FILE says all about the round: leave the options out")
    with context.operator() as operator:
        if file is not None:
            message = RoundStart.decode(file.read())
        else:
            if not image or not participants:
                raise click.UsageError("without FILE, --image and --participants are needed")
            names = [name.strip() for name in participants.split(",")]
            document = {
                "round_id": round_id or f"r-{datetime.now(UTC):%Y%m%d-%H%M%S}",
                "model_uri": model_uri or _newest_model(operator),
                "task_wasm_image": image,
                "participants": names,
                "hyperparams": named_values("--param", params),
                "k_of_n": k_of_n or len(names),
                "timeout_s": timeout_s,
                "update_format": update_format,
                "min_updates": min_updates,
                "strategy": strategy,
                "strategy_args": named_values("--strategy-arg", strategy_args),
            }
            message = RoundStart.decode(json.dumps(document).encode())
        operator.start_round(message)
        if not watch:
            click.echo(message.round_id)
            return
        _follow(operator, message.round_id, message.timeout_s + _WATCH_MARGIN_S, as_json)


def _describes_a_round(context: click.Context) -> bool:
    """Whether the command line says anything of it beside FILE."""
    return any(
        context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        for name in context.params
        if name not in ("file", "watch", "as_json")
    )


@group.command()
@click.argument("round_id")
@click.option("--timeout-s", type=float, default=3600.0, show_default=True)
@as_json
@pass_context
@fails_clearly
def watch(context: Context, round_id: str, timeout_s: float, as_json: bool) -> None:
    """Follow a round until it ends. Status 0 when it yields a model."""
    with context.operator() as operator:
        _follow(operator, round_id, timeout_s, as_json)


@group.command()
@click.argument("round_id")
@click.option("--reason", default="", help="Why; it is kept with the round.")
@as_json
@pass_context
@fails_clearly
def stop(context: Context, round_id: str, reason: str, as_json: bool) -> None:
    """End a round now: no model is made of it, and its proplets stop. Again is harmless.

    Status 0 when it is not under way any more, whether this or something else has ended it.
    """
    message = RoundStop.decode(RoundStop(round_id, reason).encode())  # says what is wrong with it
    with context.operator() as operator:
        status = operator.stop_round(message.round_id, message.reason)
    if status.phase is Phase.REFUSED:
        raise RequestError(
            f"there is no round {round_id}: {status.detail}",
            hint="`propeller-fl round list` shows those there are",
        )
    if as_json:
        click.echo(status.encode())
    else:
        click.echo(printable(f"{status.phase}: {status.detail}" if status.detail else status.phase))


@group.command("list")
@click.option("--limit", default=20, show_default=True)
@as_json
@pass_context
@fails_clearly
def list_(context: Context, limit: int, as_json: bool) -> None:
    """The newest rounds, from the coordinator's store."""
    with contextlib.closing(open_rounds(context.settings())) as store:
        rows = store.list_rounds(limit)
    if as_json:
        print_json([_summary(round_, complete) for round_, complete in rows])
        return
    print_table(
        ["round", "opened", "phase", "updates", "model"],
        [
            [
                round_.opening.start.round_id,
                stamp(round_.opening.opened_at_s),
                complete.status if complete else round_.phase,
                f"{len(round_.accepted)}/{round_.opening.start.k_of_n}",
                complete.model_topic if complete else "",
            ]
            for round_, complete in rows
        ],
    )


@group.command()
@click.argument("round_id")
@as_json
@pass_context
@fails_clearly
def show(context: Context, round_id: str, as_json: bool) -> None:
    """The story of a round, from the stores of coordinator and manager: who contributed, who was
    refused and why, how it ended. Neither they nor the broker need run."""
    with contextlib.closing(open_rounds(context.settings())) as store:
        round_ = store.load_round(round_id)
        if round_ is None:
            raise _unknown(round_id, store.known_round(round_id))
        complete, story = store.completion(round_id), store.story(round_id)
    launch = _find_launch(context, round_id)
    if as_json:
        lines = [
            {
                "at": stamp(line.at_s, "milliseconds"),
                "event": line.event,
                "proplet_id": line.proplet_id,
                "detail": line.detail,
            }
            for line in story
        ]
        tasks = {
            task.proplet_id: {"state": task.state, "error": task.error}
            for task in (launch.tasks if launch else ())
        }
        print_json(_summary(round_, complete) | {"story": lines, "tasks": tasks})
        return
    for text in tell(round_, complete, story, launch, time.time()):
        click.echo(printable(text))


@group.command()
@as_json
@fails_clearly
def strategies(as_json: bool) -> None:
    """The strategies there are, built in and of installed packages, with their arguments."""
    found = {name: strategy_arguments(name) for name in strategy_names()}
    if as_json:
        print_json(
            {
                name: {
                    key: {"default": default, "wanted": argument.wanted}
                    for key, (argument, default) in known.items()
                }
                for name, known in found.items()
            }
        )
        return
    rows: list[list[Any]] = []
    for name, known in found.items():
        rows += [[name, key, default, arg.wanted] for key, (arg, default) in known.items()] or [
            [name, "", "", ""]
        ]
    print_table(["strategy", "argument", "default", "takes"], rows)


def _unknown(round_id: str, known: KnownRound | None) -> RequestError:
    if known is not None and known.phase is Phase.REFUSED:
        return RequestError(
            f"round {round_id} was stopped before it was opened", hint="choose another round_id"
        )
    if known is not None:
        return RequestError(
            f"round {round_id} is {known.phase}, and its record is gone",
            hint="coordinator.keep_rounds says how many are kept",
        )
    return RequestError(
        f"there is no round {round_id} here",
        hint="`propeller-fl round list` shows those there are; a start that was refused leaves no "
        f"record, but `propeller-fl round watch {round_id}` says why",
    )


def _find_launch(context: Context, round_id: str) -> SavedLaunch | None:
    """What the manager's store says, if it is here."""
    path = context.settings().data_dir / "manager" / "launches.db"
    if not path.exists():
        return None
    with contextlib.closing(LaunchStore(open_to_read(path))) as store:
        return store.find(round_id)


def _follow(operator: Operator, round_id: str, timeout_s: float, as_json: bool) -> None:
    yielded = False
    for event in operator.watch(round_id, timeout_s):
        if as_json:
            click.echo(event.encode())
        else:
            click.echo(printable(f"{time.strftime('%H:%M:%S')}  {_line(event)}"))
        yielded = isinstance(event, RoundComplete) and event.status is not Outcome.FAILED
    sys.exit(0 if yielded else 1)


def _line(event: RoundEvent) -> str:
    match event:
        case LaunchReport():
            parts = [f"launched {len(event.launched)}"]
            parts += [f"not alive: {', '.join(event.absent)}"] if event.absent else []
            parts += [f"{proplet} failed: {error}" for proplet, error in event.failed.items()]
            parts += [event.error] if event.error else []
            return "; ".join(parts)
        case RoundComplete():
            detail = f" ({event.detail})" if event.detail else ""
            metrics = "".join(f", {name} {value:.4g}" for name, value in event.metrics.items())
            return (
                f"{event.status}{detail}: {event.num_updates} updates, {event.total_samples} "
                f"samples{metrics} → {event.model_topic}"
            )
        case RoundStatus(phase=Phase.REFUSED):
            return f"refused: {event.detail}"
        case RoundStatus():
            refused = "".join(f", {count} refused: {why}" for why, count in event.refused.items())
            return f"{event.phase} {event.accepted} of {event.k_of_n} updates{refused}"


def _newest_model(operator: Operator) -> str:
    versions = operator.model_versions()
    if not versions:
        raise RequestError("there is no global model", hint="is a model server running?")
    return f"fl/models/global_model_v{max(versions)}"


def _summary(round_: Round, complete: RoundComplete | None) -> dict[str, Any]:
    start_ = json.loads(round_.opening.start.encode())
    return {
        "start": start_,
        "opened_at": stamp(round_.opening.opened_at_s),
        "phase": round_.phase,
        "accepted": list(round_.accepted),
        "refused": dict(round_.refused),
        "complete": json.loads(complete.encode()) if complete else None,
    }
