"""What a reader has at hand before the first command of a page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import propeller_fl
from tests.docs.commands import REPOSITORY
from tests.docs.terminal import Terminal
from tests.support.brokers import free_port
from tests.support.registry import running_registry

MODULES = Path(propeller_fl.__file__).parent / "modules"


def a_module_and_a_registry(terminal: Terminal) -> None:
    registry = terminal.enter_context(running_registry(terminal.directory / "registry"))
    terminal.values["registry"] = registry.host
    shutil.copy(MODULES / "linear.wasm", "client.wasm")
    terminal.type("propeller-fl up")


def a_large_model(terminal: Terminal) -> None:
    """A table of linear models, large enough to go in parts, and data for it."""
    save_file({"rows": np.zeros((64, 4), np.float32)}, "large.safetensors")
    Path("data").mkdir()
    for number in (1, 2, 3):
        samples = {"x": [[number, 1, 0, 0, 0], [40 + number, 0, 1, 0, 0]], "y": [1, 2]}
        Path(f"data/proplet-{number}.json").write_text(json.dumps(samples))
    terminal.type(
        "propeller-fl --set large.above_bytes=512 --set proplet.data=data"
        " --set model_server.initial_model=large.safetensors up"
    )
    terminal.set(PROPELLER_FL_LARGE_ABOVE_BYTES=512)


def a_deployment_with_metrics(terminal: Terminal) -> None:
    terminal.type(f"propeller-fl init farm --port {free_port()} --http-port {free_port()}")


def an_http_face(terminal: Terminal) -> None:
    shutil.copy(MODULES / "linear.wasm", "client.wasm")
    terminal.values["gateway"] = str(free_port())
    terminal.type(
        "propeller-fl --set gateway.enabled=true"
        f" --set gateway.http_port={terminal.values['gateway']} up"
    )


def a_compiler(terminal: Terminal) -> None:
    """Of AssemblyScript, where `make assemblyscript` has put it."""
    modules = REPOSITORY / "examples/least_squares_as/node_modules"
    if (modules / "installed").exists():
        Path("examples/least_squares_as/node_modules").symlink_to(modules)
    else:
        terminal.lacks("least_squares_as", "AssemblyScript (make assemblyscript)")
