"""The demo itself: start everything, run the rounds, measure each model."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from propeller_fl import config
from propeller_fl.config import Settings
from propeller_fl.datasets import Dataset
from propeller_fl.demo._devices import devices
from propeller_fl.demo._plan import DemoPlan
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import ModuleError, RequestError
from propeller_fl.manager import ImageLibrary
from propeller_fl.operator import Operator, RoundEvent
from propeller_fl.proplet import Invocation, WasmtimeRuntime
from propeller_fl.wire import Format, RoundComplete, RoundStart, Update, model_uri

_IMAGE = "builtin:softmax"
_MARGIN_S = 30.0  # past a round's deadline, for aggregation and the way here


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One round as the table shows it. Accuracy and loss are those on the test samples."""

    number: int
    duration_s: float
    updates: int
    update_bytes: int
    train_loss: float
    test_loss: float
    test_accuracy: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """All rounds, and whether the target was reached."""

    rows: tuple[RoundRow, ...]
    reached: int | None  # the first round at the target

    @property
    def ok(self) -> bool:
        return self.reached is not None


class Onlooker(Protocol):
    """Told what happens while it happens."""

    def say(self, line: str) -> None: ...

    def round_started(self, number: int, participants: tuple[str, ...]) -> None: ...

    def round_event(self, event: RoundEvent) -> None: ...

    def round_ended(self, row: RoundRow) -> None: ...


def run(plan: DemoPlan, onlooker: Onlooker) -> DemoResult:
    """Run the demo to its end. Raises what a deployment, a round or a device raises."""
    if plan.output.exists():
        _clear(plan)
    plan.output.mkdir(parents=True, exist_ok=True)
    test = plan.write_data()
    settings = config.load(environ={}, flags=_flags(plan))
    roles = Role.ALL & ~Role.PROPLETS if plan.own_processes or not plan.proplets else Role.ALL
    rows: list[RoundRow] = []
    with contextlib.ExitStack() as stack:
        deployment = stack.enter_context(Deployment(settings, roles))
        if plan.own_processes:
            for name in plan.proplet_ids:
                stack.enter_context(_process(name, plan, deployment))
        for device in devices(plan, deployment.address, onlooker.say):
            stack.enter_context(device)
        operator = stack.enter_context(Operator(deployment.address, settings.topics))
        judge = stack.enter_context(_Judge(settings, test))
        for number in range(1, plan.rounds + 1):
            row = _round(number, plan, operator, judge, onlooker)
            rows.append(row)
            onlooker.round_ended(row)
    reached = next((row.number for row in rows if row.test_accuracy >= plan.target), None)
    return DemoResult(tuple(rows), reached)


def _clear(plan: DemoPlan) -> None:
    """Start afresh where an earlier demo wrote, and only there."""
    marker = plan.output / "broker"
    if any(plan.output.iterdir()) and not marker.exists():
        raise RequestError(
            f"{plan.output} holds something that is not an earlier demo's",
            hint="name an empty directory with --output",
        )
    shutil.rmtree(plan.output)


def _flags(plan: DemoPlan) -> dict[str, object]:
    return {
        "data_dir": str(plan.output),
        "broker.port": 0,
        "model_server.models_dir": str(plan.output / "models"),
        "model_server.initial_model": plan.initial_model,
        "model_server.initial_format": plan.update_format,
        "model_server.http_port": 0,
        "coordinator.model_format": plan.update_format,
        "proplet.ids": plan.proplet_ids,
        "proplet.data": str(plan.data_dir),
    }


@contextlib.contextmanager
def _process(name: str, plan: DemoPlan, deployment: Deployment) -> Iterator[None]:
    command = [sys.executable, "-m", "propeller_fl", "--data-dir", str(plan.output)]
    command += ["--broker", f"mqtt://{deployment.address.host}:{deployment.address.port}"]
    command += ["proplet", name, "--data", str(plan.data_dir)]
    with (plan.output / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    try:
        yield
    finally:
        child.terminate()
        child.wait(10)


def _round(
    number: int, plan: DemoPlan, operator: Operator, judge: _Judge, onlooker: Onlooker
) -> RoundRow:
    participants = plan.proplet_ids + plan.device_ids
    document = {
        "round_id": f"demo-{number:04d}",
        "model_uri": model_uri(number - 1),
        "task_wasm_image": _IMAGE,
        "participants": participants,
        "hyperparams": {"epochs": plan.epochs, "lr": plan.lr, "batch_size": plan.batch_size},
        "k_of_n": len(participants),
        "timeout_s": plan.timeout_s,
        "update_format": plan.update_format,
        "strategy": plan.strategy,
        "strategy_args": dict(plan.strategy_args),
    }
    start = RoundStart.decode(json.dumps(document).encode())
    onlooker.round_started(number, participants)
    begin_s = time.monotonic()
    operator.start_round(start)
    complete: RoundComplete | None = None
    for event in operator.watch(start.round_id, plan.timeout_s + _MARGIN_S):
        onlooker.round_event(event)
        if isinstance(event, RoundComplete):
            complete = event
    duration_s = time.monotonic() - begin_s
    if complete is None or complete.model_version != number:
        detail = complete.detail if complete else "it was refused"
        raise RequestError(f"round {start.round_id} yielded no model: {detail}")
    loss, accuracy = judge.measure(operator.model(complete.model_topic)[1])
    return RoundRow(
        number=number,
        duration_s=duration_s,
        updates=complete.num_updates,
        update_bytes=complete.update_bytes,
        train_loss=complete.metrics.get("loss", float("nan")),
        test_loss=loss,
        test_accuracy=accuracy,
    )


class _Judge:
    """Measures a model on the test samples with the very module that trains it."""

    def __init__(self, settings: Settings, test: Dataset) -> None:
        self._runtime = WasmtimeRuntime(settings.data_dir / "compiled")
        self._module = self._runtime.compile(ImageLibrary({}).fetch(_IMAGE).data)
        self._data = test.encode(Format.CBOR)

    def __enter__(self) -> _Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self._runtime.close()

    def measure(self, model: bytes) -> tuple[float, float]:
        """Loss and accuracy."""
        env = {
            "ROUND_ID": "judge",
            "MODEL_URI": "fl/models/judge",
            "HYPERPARAMS": "{}",
            "FL_MODE": "evaluate",
        }
        files = {"model": model, "data": self._data}
        metrics = Update.decode(
            self._runtime.run(self._module, Invocation(env, files)).stdout
        ).metrics
        if not {"loss", "accuracy"} <= metrics.keys():
            raise ModuleError("the module's evaluation lacks loss or accuracy")
        return metrics["loss"], metrics["accuracy"]
