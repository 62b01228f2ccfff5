"""`propeller-fl init`, `propeller-fl access …`, and what `proplet enroll` and `revoke` do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click

from propeller_fl.access import (
    AccessDesk,
    AccessRole,
    Credential,
    NodePlace,
    Plan,
    board_settings,
    grants_of,
    loaded_settings,
    write_private,
)
from propeller_fl.cli._context import (
    Context,
    as_json,
    fails_clearly,
    pass_context,
    print_json,
    print_table,
    say,
)
from propeller_fl.errors import ConfigError
from propeller_fl.firmware import shell_lines, type_settings
from propeller_fl.link import reload_broker


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="Name or address under which others reach this machine. May be repeated; none: it is "
    "for this machine alone.",
)
@click.option(
    "--broker",
    type=click.Choice(["embedded", "mosquitto"]),
    default="embedded",
    show_default=True,
    help="Whose configuration to write.",
)
@click.option("--port", default=8883, show_default=True, help="Of the broker.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME=HOST[:PORT[:ROUTE_PORT]]",
    help="A node of a cluster of embedded brokers, on its own machine; three or five of them. "
    "[ports: 8883, 6222]",
)
@click.option("--http-port", default=8443, show_default=True, help="Of the model server.")
@click.option("--gateway-port", default=8444, show_default=True, help="Of Propeller's HTTP face.")
@click.option("--proplets", metavar="ID,ID,…", help="To enroll; '' for none.")
@click.option(
    "--client-certificates/--no-client-certificates",
    default=True,
    help="Whether clients must show one as well. [default: they must]",
)
@click.option(
    "--shared-topics",
    is_flag=True,
    help="Allow the control topics that Propeller's own proplets share, on which anybody can "
    "speak as any other.",
)
@pass_context
@fails_clearly
def init(
    context: Context,
    directory: Path | None,
    hosts: tuple[str, ...],
    broker: Any,
    port: int,
    nodes: tuple[str, ...],
    http_port: int,
    gateway_port: int,
    proplets: str | None,
    client_certificates: bool,
    shared_topics: bool,
) -> None:
    """Make a deployment in DIRECTORY (default: the data directory): an authority, certificates,
    a login for each service and proplet, and the broker's access rules.

    Afterwards `propeller-fl --data-dir DIRECTORY up` needs no further word.
    """
    settings = context.settings()
    data_dir = directory or settings.data_dir
    names = settings.proplet.ids if proplets is None else tuple(filter(None, proplets.split(",")))
    plan = Plan(
        hosts=hosts,
        broker=broker,
        port=port,
        http_port=http_port,
        gateway_port=gateway_port,
        topic_prefix=settings.topic_prefix,
        client_certificates=client_certificates,
        shared_topics=shared_topics,
        nodes=tuple(NodePlace.parse(node) for node in nodes),
    )
    desk = AccessDesk.init(data_dir, plan, names)
    reach = plan.broker_url + ("" if hosts or nodes else ", for this machine alone")
    say(f"made {data_dir}: broker {reach}")
    if names:
        say(f"enrolled: {', '.join(names)}; their files are in {data_dir / 'access' / 'proplets'}")
    if broker == "mosquitto":
        say(f"start the broker: mosquitto -c {data_dir / 'mosquitto' / 'mosquitto.conf'}")
    for node in plan.nodes:
        directory = desk.node_directory(node.name)
        say(f"on {node.host}, where a copy is: propeller-fl --data-dir {directory} broker")
    say(f"start the rest: propeller-fl --data-dir {data_dir} up")


@click.group("access")
def group() -> None:
    """Who there is in a deployment, and what they may do."""


@group.command("list")
@as_json
@pass_context
@fails_clearly
def list_identities(context: Context, as_json: bool) -> None:
    """Every identity, and those whose credential was taken back."""
    desk = _desk(context)
    rows = [
        {"name": one.name, "role": str(one.role), "issued_at": one.issued_at, "revoked_at": ""}
        for one in desk.identities()
    ]
    rows += [
        {"name": one.name, "role": str(one.role), "issued_at": "", "revoked_at": one.at}
        for one in desk.revoked()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(["name", "role", "issued", "revoked"], [list(row.values()) for row in rows])


@group.command()
@as_json
@pass_context
@fails_clearly
def permissions(context: Context, as_json: bool) -> None:
    """What each role may publish and subscribe; {id} stands for a proplet's own."""
    settings = context.settings()
    desk = AccessDesk.at(settings.data_dir)
    shared = desk.plan.shared_topics if desk else False
    topics = desk.plan.topics if desk else settings.topics
    rows = []
    for role in AccessRole:
        if role is AccessRole.BROKER:
            continue
        grants = grants_of(role, topics, "id", shared_topics=shared)
        for verb, allowed in (("publish", grants.publish), ("subscribe", grants.subscribe)):
            rows += [
                {"role": str(role), "may": verb, "topic": topic.replace("/id", "/{id}")}
                for topic in allowed
            ]
    if as_json:
        print_json(rows)
    else:
        print_table(["role", "may", "topic"], [list(row.values()) for row in rows])


@group.command()
@click.argument("name")
@pass_context
@fails_clearly
def rotate(context: Context, name: str) -> None:
    """Give NAME, a role or a proplet, a new credential; the old one is void at once.

    A service that runs goes on with its session until the broker ends it, and must be started
    again; a proplet needs the new file.
    """
    desk = _desk(context)
    path = desk.rotate(name)
    say(f"{name} has a new credential: {path}")
    _say_nodes(desk)


@group.command("renew-server")
@click.option("--host", "hosts", multiple=True, help="As for init. Default: those of before.")
@pass_context
@fails_clearly
def renew_server(context: Context, hosts: tuple[str, ...]) -> None:
    """A new certificate for broker and model server, which expires in 825 days."""
    desk = _desk(context)
    desk.renew_server(hosts)
    say(f"the server's certificate lasts until {desk.server().expires:%Y-%m-%d}")
    _say_nodes(desk)


@group.command("reload")
@pass_context
@fails_clearly
def reload_users(context: Context) -> None:
    """Have the broker that runs on this directory read users and certificates again: for the node
    of a cluster, after newer files were copied there."""
    _desk(context)
    directory = context.settings().data_dir
    if reload_broker(directory / "broker"):
        say(f"the broker on {directory} has read them")
    else:
        say(f"no broker runs on {directory}; it will read them when it starts")


@click.command()
@click.argument("name")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to put a copy. Default: only in the deployment.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["file", "shell", "settings", "qr"]),
    default="file",
    show_default=True,
    help="Of the copy: the file for `--credentials`; commands for a board's console; key=value "
    "lines for its build or an emulator; a QR code (PNG, SVG, or text).",
)
@click.option("--serial", metavar="PORT", help="Type it on the console of the board there.")
@click.option("--replace", is_flag=True, help="Though it has one, which is taken back at once.")
@pass_context
@fails_clearly
def enroll(
    context: Context, name: str, output: Path | None, form: str, serial: str | None, replace: bool
) -> None:
    """Issue the credential of one proplet. Whoever has the file is that proplet."""
    if form != "file" and output is None:
        raise click.UsageError(f"--format {form} needs --output")
    desk = _desk(context)
    path = desk.enroll(name, replacing=replace)
    _say_nodes(desk)
    credential = Credential.load(path)
    say(f"enrolled {name}: {path}")
    if output is not None:
        write_private(output.absolute(), _copy(credential, form, output))
        say(f"written to {output}; keep it secret")
    if serial is not None:
        _type_on(serial, credential)
        say(f"typed on {serial}: now restart the board")


@click.command()
@click.argument("name")
@pass_context
@fails_clearly
def revoke(context: Context, name: str) -> None:
    """Take a proplet's credential back: the running broker hangs up on it at once."""
    desk = _desk(context)
    desk.revoke(name)
    say(f"revoked {name}")
    _say_nodes(desk)


def _desk(context: Context) -> AccessDesk:
    settings = context.settings()
    desk = AccessDesk.at(settings.data_dir)
    if desk is None:
        raise ConfigError(
            f"{settings.data_dir} is no deployment",
            hint="`propeller-fl init` makes one; --data-dir names another",
        )
    return desk


def _say_nodes(desk: AccessDesk) -> None:
    """Those that run from the deployment's own directories have taken it up already."""
    for node in desk.plan.nodes:
        say(
            f"if {node.name} runs elsewhere: copy {desk.node_directory(node.name)}/access there, "
            "and `propeller-fl --data-dir DIRECTORY access reload`"
        )


def _copy(credential: Credential, form: str, output: Path) -> bytes:
    match form:
        case "shell":
            lines = shell_lines(dict(board_settings(credential)))
            return "".join(f"{line}\n" for line in lines).encode()
        case "settings":
            return loaded_settings(credential).encode()
        case "qr":
            import segno  # nothing else here wants it

            code = segno.make_qr(credential.encode(), error="l", mode="byte")
            kind = output.suffix.lower().lstrip(".")
            if kind not in ("png", "svg"):
                text = io.StringIO()
                code.terminal(text, compact=True)  # to be scanned from a screen
                return text.getvalue().encode()
            image = io.BytesIO()
            code.save(image, kind=kind, **_scale(kind))
            return image.getvalue()
        case _:
            return credential.encode()


def _scale(kind: str) -> dict[str, int]:
    return {"scale": 6} if kind == "png" else {}


def _type_on(port: str, credential: Credential) -> None:
    try:
        type_settings(port, dict(board_settings(credential)))
    except ModuleNotFoundError:
        raise ConfigError(
            "pyserial is not installed", hint="pip install 'propeller-fl[hil]'"
        ) from None
