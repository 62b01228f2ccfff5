"""What every command shares: settings, output and the way errors end a command."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table

from propeller_fl import config
from propeller_fl.config import Settings
from propeller_fl.deployment import broker_address
from propeller_fl.errors import PropellerError
from propeller_fl.operator import Operator

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Context:
    """Settings are read when a command first asks, so that ``--help`` never fails on them."""

    file: Path | None
    flags: dict[str, Any]

    def settings(self, **flags: Any) -> Settings:
        """``flags`` of the command itself (``broker__url=…``), over all others; None is absent."""
        own = {name.replace("__", "."): value for name, value in flags.items() if value is not None}
        return config.load(self.file, flags=self.flags | own)

    def operator(self, **flags: Any) -> Operator:
        settings = self.settings(**flags)
        # a command that cannot connect ends with one line of its own
        logging.getLogger("propeller_fl.link").setLevel(logging.ERROR)
        return Operator(broker_address(settings.broker), settings.topics)


pass_context = click.make_pass_decorator(Context)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def console() -> Console:
    """Standard output; plain lines when it is not a terminal."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def print_table(columns: list[str], rows: list[list[Any]]) -> None:
    """A table for people, tab-separated lines when standard output is not a terminal."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(str(cell) for cell in row))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def fails_clearly(command: Callable[P, R]) -> Callable[P, R]:
    """Print an error of ours as one line and end with status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PropellerError as err:
            click.echo(f"error: {err}", err=True)
            sys.exit(1)

    return wrapped
