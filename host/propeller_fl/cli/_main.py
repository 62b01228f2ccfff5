"""The top of the command line, and the options that all commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from propeller_fl import __version__, config, log
from propeller_fl.cli import _lazy
from propeller_fl.cli._context import Context, fails_clearly, pass_context, print_json

_COMMANDS = {
    "access": "_access:group",
    "aggregate": "_services:aggregate",
    "broker": "_services:broker",
    "client": "_client:group",
    "coordinator": "_services:coordinator",
    "dashboard": "_services:dashboard",
    "demo": "_demo:demo",
    "doctor": "_doctor:doctor",
    "experiment": "_experiments:group",
    "fleet": "_fleet:group",
    "http": "_services:http",
    "init": "_access:init",
    "manager": "_services:manager",
    "model": "_models:group",
    "model-server": "_services:model_server",
    "proplet": "_services:proplet",
    "round": "_rounds:group",
    "supermq": "_supermq:group",
    "test": "_test:group",
    "up": "_services:up",
}
"""Each command and where it is; what it needs is imported when it is called."""


@click.group(
    cls=_lazy.LazyGroup,
    commands_at=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="propeller-fl")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file of settings.")
@click.option("--data-dir", help="Where state lives.")
@click.option("--broker", help="mqtt://user:password@host:port or mqtts://…; default: our own.")
@click.option(
    "--credentials",
    multiple=True,
    metavar="FILE",
    help="Who to be, as `init` or `proplet enroll` made it. May be repeated.",
)
@click.option("--topic-prefix", help="Levels before every topic, such as m/tenant/c/channel.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.NAME=VALUE",
    help="Any setting; see `propeller-fl config`. May be repeated.",
)
@click.option("--log-level", default="info", show_default=True, help="debug, info, warning, error.")
@click.option("--log-json", is_flag=True, help="Log lines as JSON.")
@click.pass_context
def main(
    ctx: click.Context,
    file: Path | None,
    data_dir: str | None,
    broker: str | None,
    credentials: tuple[str, ...],
    topic_prefix: str | None,
    assignments: tuple[str, ...],
    log_level: str,
    log_json: bool,
) -> None:
    """Federated learning that runs on microcontrollers as well as on desktops.

    Start with `propeller-fl demo`, or `propeller-fl up` and `propeller-fl round start`.
    """
    levels = {"debug", "info", "warning", "error"}
    if log_level.lower() not in levels:
        raise click.BadParameter(f"one of {', '.join(sorted(levels))}", param_hint="--log-level")
    log.configure(log_level, as_json=log_json)
    flags: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise click.BadParameter(f"{assignment!r} has no =", param_hint="--set")
        flags[name] = value
    named = {"data_dir": data_dir, "broker.url": broker, "topic_prefix": topic_prefix}
    named["credentials"] = ",".join(credentials) or None
    flags |= {name: value for name, value in named.items() if value is not None}
    ctx.obj = Context(file, flags)


@main.command("config")
@pass_context
@fails_clearly
def show_config(context: Context) -> None:
    """Print every setting as it is in force, as JSON."""
    print_json(config.describe(context.settings()))
