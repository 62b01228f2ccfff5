"""Commands that run services until they are told to stop."""

from __future__ import annotations

import signal
import threading

import click

from propeller_fl import log
from propeller_fl.access import AccessRole, Keyring
from propeller_fl.cli import _lazy, _supervisor
from propeller_fl.cli._context import Context, fails_clearly, pass_context, say
from propeller_fl.config import Settings
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import ConfigError
from propeller_fl.login import broker_address


def run_until_stopped(settings: Settings, roles: Role) -> None:
    """Run until SIGINT or SIGTERM (status 0), or until a service fails (its error is raised)."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log.catch_uncaught()
    with Deployment(settings, roles) as deployment:
        say(f"ready: broker {deployment.address}")
        if deployment.http_address:
            say(f"ready: models at {deployment.http_address}/models")
        if deployment.gateway_address:
            say(f"ready: Propeller's HTTP at {deployment.gateway_address}")
        if deployment.metrics_address:
            say(f"ready: metrics at {deployment.metrics_address}/metrics")
        if deployment.dashboard_address:
            say(f"ready: page at {deployment.dashboard_address}/")
        if deployment.aggregator_name:
            say(f"ready: aggregator {deployment.aggregator_name}")
        if Role.PROPLETS in roles:
            ids = settings.proplet.ids
            say(f"ready: {', '.join(ids)}", proplet_ids=",".join(ids))
        _supervisor.ready(f"broker {deployment.address}")
        while not stop.wait(0.5):
            failure = deployment.failure()
            if failure is not None:
                raise failure
            _supervisor.alive()
        _supervisor.stopping()


@click.command()
@click.option("--proplets", metavar="ID,ID,…", help="Proplets to run; '' for none.")
@pass_context
@fails_clearly
def up(context: Context, proplets: str | None) -> None:
    """Run everything: broker, manager, coordinator, model server, experiments, page, proplets."""
    settings = context.settings(proplet__ids=proplets or None)
    roles = Role.ALL if proplets != "" else Role.ALL & ~Role.PROPLETS
    if not Keyring.of(settings).has(AccessRole.EXPERIMENTS):
        say("no experiments: there is no credential for them; a deployment of `init` has one")
        roles &= ~Role.EXPERIMENTS
    if settings.gateway.enabled:
        roles |= Role.GATEWAY
    if settings.dashboard.enabled:
        roles |= Role.DASHBOARD
    run_until_stopped(settings, roles)


@click.command()
@pass_context
@fails_clearly
def broker(context: Context) -> None:
    """Run the embedded MQTT broker alone."""
    settings = context.settings()
    if settings.broker.url:
        raise ConfigError(
            f"broker.url names another broker: {broker_address(settings.broker)}",
            hint="leave it out to run our own",
        )
    run_until_stopped(settings, Role.BROKER)


@click.command()
@pass_context
@fails_clearly
def manager(context: Context) -> None:
    """Run the manager: launches tasks, serves images, forwards updates."""
    run_until_stopped(context.settings(), Role.MANAGER)


@click.command()
@pass_context
@fails_clearly
def coordinator(context: Context) -> None:
    """Run the coordinator: owns rounds, aggregation and model versions."""
    run_until_stopped(context.settings(), Role.COORDINATOR)


@click.command("model-server")
@pass_context
@fails_clearly
def model_server(context: Context) -> None:
    """Run the model server: keeps and publishes models, over MQTT and HTTP."""
    run_until_stopped(context.settings(), Role.MODEL_SERVER)


@click.command()
@pass_context
@fails_clearly
def http(context: Context) -> None:
    """Run Propeller's HTTP face: experiments, updates, models and tasks over MQTT."""
    run_until_stopped(context.settings(), Role.GATEWAY)


@click.command()
@pass_context
@fails_clearly
def dashboard(context: Context) -> None:
    """Run the page: fleet, rounds and models live in a browser, and a button that starts rounds."""
    run_until_stopped(context.settings(), Role.DASHBOARD)


@click.command()
@click.option("--upstream", metavar="URL", help="Broker of the deployment to take part in.")
@click.option(
    "--upstream-credential", metavar="FILE", help="As `proplet enroll` made it for us there."
)
@click.option("--id", "proplet_id", metavar="ID", help="As which proplet, without a credential.")
@click.option("--devices", type=int, metavar="N", help="How many devices there are here.")
@pass_context
@fails_clearly
def aggregate(
    context: Context,
    upstream: str | None,
    upstream_credential: str | None,
    proplet_id: str | None,
    devices: int | None,
) -> None:
    """Take part in another deployment as one proplet, for all devices of this one.

    Runs a deployment of its own: broker (unless --broker names one), manager, coordinator and model
    server. Each task from upstream is a round of the devices here, and their mean is the answer.
    """
    settings = context.settings(
        aggregator__upstream_url=upstream,
        aggregator__upstream_credential=upstream_credential,
        aggregator__id=proplet_id,
        aggregator__devices=devices,
    )
    run_until_stopped(settings, Role.BROKER | Role.SERVICES | Role.AGGREGATOR)


class _PropletGroup(_lazy.LazyGroup):
    """``proplet ID…`` runs proplets; ``proplet enroll ID`` and such are commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.list_commands(ctx), "-h", "--help"}:
            args = [_run_proplets.name or "", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_PropletGroup,
    commands_at={"enroll": "_access:enroll", "revoke": "_access:revoke"},
)
def proplet() -> None:
    """Run proplets: `proplet ID…`; issue and take back their credentials.

    `propeller-fl proplet run --help` has the options of the first.
    """


@proplet.command("run")
@click.argument("ids", nargs=-1)
@click.option("--data", help="A shipped data set, or a directory of {proplet_id}.json or .cbor.")
@click.option("--credentials", multiple=True, metavar="FILE", help="Who to be; may be repeated.")
@pass_context
@fails_clearly
def _run_proplets(
    context: Context, ids: tuple[str, ...], data: str | None, credentials: tuple[str, ...]
) -> None:
    """Run proplets named IDS in this process, on Wasmtime; by default those of the credentials."""
    settings = context.settings(
        proplet__ids=ids or None, proplet__data=data, credentials=credentials or None
    )
    run_until_stopped(settings, Role.PROPLETS)
