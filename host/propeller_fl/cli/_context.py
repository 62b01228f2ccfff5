"""What every command shares: settings, output and the way errors end a command."""

from __future__ import annotations

import errno
import functools
import json
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from propeller_fl import config, log
from propeller_fl.access import AccessRole, Keyring
from propeller_fl.config import Settings
from propeller_fl.errors import PropellerError
from propeller_fl.log import printable
from propeller_fl.login import login
from propeller_fl.operator import Operator

_log = logging.getLogger(__name__)

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
        running = click.get_current_context(silent=True)
        command = (running.info_name or "") if running else ""
        settings = config.load(self.file, flags=self.flags | own, command=command)
        return Keyring.of(settings).adapt(settings)

    def operator(self, role: AccessRole = AccessRole.OPERATOR, **flags: Any) -> Operator:
        """A session of somebody who may do what ``role`` may, where the broker knows its users."""
        settings = self.settings(**flags)
        quiet_links()
        return Operator(login(settings, role), settings.topics)


pass_context = click.make_pass_decorator(Context)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def quiet_links() -> None:
    """For a command that says in a line of its own how its connection went."""
    logging.getLogger("propeller_fl.link").setLevel(logging.ERROR)


def say(text: str, **ids: str) -> None:
    """A line of a service about itself on standard error: as it is for people, else an event."""
    if log.is_json():
        _log.info("%s", text, extra=ids)
    else:
        click.echo(text, err=True)


def say_error(text: str) -> None:
    """Why a command ends."""
    if log.is_json():
        _log.error("%s", text)
    else:
        click.echo(f"error: {printable(text)}", err=True)


def console() -> Console:
    """Standard output; plain lines when it is not a terminal."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def print_table(columns: list[str], rows: list[list[Any]]) -> None:
    """A table for people, tab-separated lines when standard output is not a terminal."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(printable(str(cell)) for cell in row))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    console().print(table)


def named_values(option: str, texts: Iterable[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as often as an option was given; a value that is JSON is read as such."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{option} {text!r} has no =")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def fails_clearly(command: Callable[P, R]) -> Callable[P, R]:
    """Print an error of ours, or of the file system, as one line and end with status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PropellerError as err:
            say_error(str(err))
        except OSError as err:
            if err.errno in (None, errno.EPIPE):  # a reader that has enough is no error
                raise
            say_error(f"{err.filename}: {err.strerror}" if err.filename else str(err.strerror))
        sys.exit(1)

    return wrapped
