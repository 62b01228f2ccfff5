"""`propeller-fl supermq …`"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from propeller_fl import supermq
from propeller_fl.cli._context import as_json, fails_clearly, print_json
from propeller_fl.errors import ConfigError

_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.group("supermq")
def group() -> None:
    """Make ready what SuperMQ needs to be our broker: docs/supermq.md."""


@group.command()
@click.argument("directory", type=_DIRECTORY)
@fails_clearly
def keygen(directory: Path) -> None:
    """Write a new Ed25519 key for SuperMQ's auth service as DIRECTORY/active.key."""
    click.echo(str(supermq.write_signing_key(directory)))


@group.command()
@click.argument("directory", type=_DIRECTORY)
@click.option("--broker", default="mqtt://localhost:1883", show_default=True,
              help="SuperMQ's MQTT adapter, as our services reach it.")  # fmt: skip
@click.option("--proplets", default="proplet-1,proplet-2,proplet-3", show_default=True,
              metavar="ID,ID,…")  # fmt: skip
@click.option("--domain", default="propeller-fl", show_default=True)
@click.option("--channel", default="fl", show_default=True)
@click.option("--user", default="admin", show_default=True, help="A user of SuperMQ.")
@click.option("--password-file", type=click.Path(path_type=Path),
              help="Holds that user's password; else SMQ_USERS_ADMIN_PASSWORD, else asked for.",
              )  # fmt: skip
@click.option("--url", help="Of all services, behind SuperMQ's own proxy, such as http://localhost")
@click.option("--users-url", help="Default: http://localhost:9002")
@click.option("--domains-url", help="Default: http://localhost:9003")
@click.option("--channels-url", help="Default: http://localhost:9005")
@click.option("--clients-url", help="Default: http://localhost:9006")
@click.option("--seen-as", type=click.Path(path_type=Path),
              help="DIRECTORY as the services see it, in a container say.")  # fmt: skip
@click.option("--wait-s", default=0.0, show_default=True, help="For services that are starting.")
@as_json
@fails_clearly
def provision(
    directory: Path,
    broker: str,
    proplets: str,
    domain: str,
    channel: str,
    user: str,
    password_file: Path | None,
    url: str | None,
    seen_as: Path | None,
    wait_s: float,
    as_json: bool,
    **urls: str | None,
) -> None:
    """Make a domain, a channel, and a client for each service and proplet; write what they need to
    connect into DIRECTORY, as settings files with mode 0600.

    A second run changes nothing. Start a service with `propeller-fl --config DIRECTORY/NAME.toml`.
    """
    plan = supermq.Plan(
        directory,
        broker,
        tuple(name.strip() for name in proplets.split(",") if name.strip()),
        domain,
        channel,
        seen_as,
    )
    services = ("users", "domains", "channels", "clients")
    places = {name: urls[f"{name}_url"] or url for name in services}
    endpoints = supermq.Endpoints(**{name: place for name, place in places.items() if place})
    api = supermq.Api(endpoints, wait_s=wait_s)
    api.log_in(supermq.Login(user, _password(password_file)))
    done = supermq.provision(api, plan)
    if as_json:
        files = {name: str(path) for name, path in done.settings.items()}
        print_json(
            {"topic_prefix": done.topic_prefix, "settings": files, "changes": list(done.changes)}
        )
        return
    for change in done.changes:
        click.echo(f"new: {change}")
    click.echo(f"{'ready' if done.changes else 'nothing to do'}: topics under {done.topic_prefix}")


def _password(file: Path | None) -> str:
    """Never from the command line, where every user of the machine can read it."""
    if file is not None:
        try:
            return file.read_text().strip()
        except (OSError, UnicodeDecodeError) as err:
            reason = err.strerror if isinstance(err, OSError) else "it is no text"
            raise ConfigError(f"password file {file}: {reason}") from err
    given = os.environ.get("SMQ_USERS_ADMIN_PASSWORD", "")
    if not given and not sys.stdin.isatty():
        raise ConfigError(
            "no password", hint="name a file with --password-file, or set SMQ_USERS_ADMIN_PASSWORD"
        )
    return given or str(click.prompt("password", hide_input=True, err=True))
