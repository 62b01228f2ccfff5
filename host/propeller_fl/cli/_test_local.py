"""`propeller-fl test local`"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click
import numpy as np

from propeller_fl import config
from propeller_fl.cli._context import Context, fails_clearly, named_values, pass_context
from propeller_fl.config import Settings
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import PropellerError, RequestError
from propeller_fl.log import printable
from propeller_fl.operator import Operator, RoundEvent
from propeller_fl.proplet import check_module
from propeller_fl.store import LaunchStore, open_to_read
from propeller_fl.wire import (
    LaunchReport,
    Model,
    Outcome,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    model_uri,
)

_SEED_PARAMS: Final = {"epochs": 1, "lr": 0.01, "batch_size": 16}
_MARGIN_S: Final = 30.0  # past the deadline, for aggregation and the way here
_LOOK_S: Final = 2.0
_ANSWER_S: Final = 60.0  # of a service, on a machine that has much else to do
_ROUND_ID: Final = "test-local"
_TRY: Final = (
    "is --model one that the module trains, and --data in the form that it reads? "
    "`propeller-fl client run` runs it alone"
)
_REASONS: Final = "docs/protocol.md lists the reasons; `propeller-fl client run` shows the update"


class _FailedError(PropellerError):
    """The verdict."""


@click.command()
@click.option(
    "--wasm",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The training module.",
)
@click.option("--model", "initial", default="linear:3", show_default=True,
              help="Version 0: linear:N, softmax:NxC, a file.")  # fmt: skip
@click.option("--data", default="tumors", show_default=True,
              help="A shipped data set, or a directory of {proplet_id}.json or .cbor.")  # fmt: skip
@click.option("--proplets", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE",
              help="A hyperparameter; default: epochs=1, lr=0.01, batch_size=16.")  # fmt: skip
@click.option("--timeout-s", default=30.0, show_default=True, help="Deadline of the round.")
@click.option("--keep", is_flag=True, help="Keep the temporary directory; a failure always does.")
@pass_context
@fails_clearly
def local(
    context: Context,
    wasm: Path,
    initial: str,
    data: str,
    proplets: int,
    params: tuple[str, ...],
    timeout_s: float,
    keep: bool,
) -> None:
    """Run one whole round with the module FILE on this machine, and say whether it worked.

    Everything is real: a broker, manager, coordinator, model server and proplets on Wasmtime, on
    free ports of loopback and in a temporary directory. Of the settings only the file and the flags
    count, not the environment. Status 0 when every proplet's update is in the new model, 1 if not.
    """
    hyperparams = named_values("--param", params) or _SEED_PARAMS
    logging.getLogger("propeller_fl").setLevel(logging.ERROR)
    directory = Path(tempfile.mkdtemp(prefix="propeller-fl-test-"))
    ids = tuple(f"proplet-{number}" for number in range(1, proplets + 1))
    own = {
        "data_dir": str(directory),
        "topic_prefix": "",
        "broker.url": "",
        "broker.host": "127.0.0.1",
        "broker.port": 0,
        "model_server.models_dir": str(directory / "models"),
        "model_server.initial_model": initial,
        "model_server.http_host": "127.0.0.1",
        "model_server.http_port": 0,
        "proplet.ids": ids,
        "proplet.data": data,
    }
    passed = False
    try:
        settings = config.load(context.file, environ={}, flags=context.flags | own)
        start = RoundStart(
            round_id=_ROUND_ID,
            model_uri=model_uri(0),
            task_wasm_image=str(wasm.resolve()),
            participants=ids,
            hyperparams=hyperparams,
            k_of_n=proplets,
            timeout_s=timeout_s,
        )
        _round(settings, RoundStart.decode(start.encode()), wasm)
        passed = True
    except PropellerError as err:
        _say(f"FAILED: {err}")
    finally:
        if passed and not keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            _say(f"kept: {directory} (stores, models, broker/ with the broker's log)")
    if passed:
        _say("PASSED")
    sys.exit(0 if passed else 1)


def _round(settings: Settings, start: RoundStart, wasm: Path) -> None:
    """One round, a line each step. Raises :class:`PropellerError` at the first that goes wrong."""
    begin_s = time.monotonic()
    image = wasm.read_bytes()
    report = check_module(image)
    for finding in report.findings:
        _say(f"module: {finding.level}: {finding.message}")
    if not report.ok:
        raise _FailedError(f"{wasm} breaks the client contract", hint="docs/client-contract.md")
    _say(f"module: {wasm.name}, {len(image)} bytes, sha256 {report.sha256}, keeps the contract")
    with contextlib.ExitStack() as stack:
        deployment = stack.enter_context(Deployment(settings, Role.ALL))
        _say(f"started: broker {deployment.address}, manager, coordinator, model server")
        _say(f"started: {', '.join(start.participants)} on {settings.proplet.data}")
        operator = stack.enter_context(
            Operator(deployment.address, settings.topics, timeout_s=_ANSWER_S)
        )
        base, _ = operator.model(start.model_uri)
        shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in base.tensors.items())
        _say(f"model: {start.model_uri}: {shapes}")
        operator.start_round(start)
        _say(f"round: open for {start.timeout_s:g} s, {start.k_of_n} updates wanted")
        complete = _watch(deployment, operator, start)
        _judge(settings, start, complete)
        _check_model(operator, base, complete)
    _say(f"took: {time.monotonic() - begin_s:.1f} s")


def _watch(deployment: Deployment, operator: Operator, start: RoundStart) -> RoundComplete:
    """Follow the round to its end, and no further than to the first task that has failed."""
    told: set[str] = set()
    deadline_s = time.monotonic() + start.timeout_s + _MARGIN_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(RequestError):  # it has not ended within this look
            for event in operator.watch(start.round_id, _LOOK_S):
                line = _line(event)
                if line not in told:
                    _say(line)
                    told.add(line)
                _stop_if_refused(event)
                if isinstance(event, RoundComplete):
                    return event
        failure = deployment.failure()
        if failure is not None:
            raise _FailedError(f"a service ended: {failure}")
        if _say_task_errors(deployment.settings, start.round_id):
            raise _FailedError("a proplet has failed", hint=_TRY)
    raise _FailedError("the round has not ended", hint="see the directory's stores and logs")


def _stop_if_refused(event: RoundEvent) -> None:
    if isinstance(event, RoundStatus) and event.phase is Phase.REFUSED:
        raise _FailedError(f"the coordinator refuses the round: {event.detail}")
    if isinstance(event, RoundStatus) and event.refused:
        why = ", ".join(event.refused)
        raise _FailedError(f"the coordinator refuses an update of the module: {why}", hint=_REASONS)
    if isinstance(event, LaunchReport) and event.error:
        raise _FailedError(f"the manager cannot launch the module: {event.error}")


def _line(event: RoundEvent) -> str:
    match event:
        case LaunchReport():
            return f"launched: {', '.join(event.launched) or 'none'}" + (
                f"; not alive: {', '.join(event.absent)}" if event.absent else ""
            )
        case RoundComplete():
            metrics = "".join(f", {name} {value:.4g}" for name, value in event.metrics.items())
            return (
                f"round: {event.status}, {event.num_updates} updates of {event.total_samples} "
                f"samples{metrics}"
            )
        case RoundStatus():
            refused = "".join(f", {count} refused: {why}" for why, count in event.refused.items())
            return f"updates: {event.accepted} of {event.k_of_n}{refused}"


def _judge(settings: Settings, start: RoundStart, complete: RoundComplete) -> None:
    if complete.status is Outcome.COMPLETE:
        return
    if _say_task_errors(settings, start.round_id):  # which may have ended the round before a look
        raise _FailedError("a proplet has failed", hint=_TRY)
    missing = f", nothing of {', '.join(complete.missing)}" if complete.missing else ""
    detail = f": {complete.detail}" if complete.detail else ""
    raise _FailedError(f"the round ended as {complete.status}{detail}{missing}", hint=_TRY)


def _say_task_errors(settings: Settings, round_id: str) -> bool:
    path = settings.data_dir / "manager" / "launches.db"
    with contextlib.closing(LaunchStore(open_to_read(path))) as store:
        launch = store.find(round_id)
    errors = (
        [(task.proplet_id, task.error) for task in launch.tasks if task.error] if launch else []
    )
    for proplet_id, error in errors:
        _say(f"{proplet_id}: {error}")
    return bool(errors)


def _check_model(operator: Operator, base: Model, complete: RoundComplete) -> None:
    model, document = operator.model(complete.model_topic)
    _say(f"model: {complete.model_topic}, {len(document)} bytes, sha256 {complete.sha256}")
    same = all(np.array_equal(model.tensors[name], array) for name, array in base.tensors.items())
    if same:
        _say("note: the new model is the old one: the module has learned nothing")


def _say(line: str) -> None:
    click.echo(printable(line))
