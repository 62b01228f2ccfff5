"""Services in one process: made from settings, started in the order they need one another.

A service's package is imported when it is started: a coordinator has no use for a Wasm runtime, and
a command that asks one question for none of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Flag, auto
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from propeller_fl import disk
from propeller_fl.access import AccessRole, Credential, Keyring, TokenBook
from propeller_fl.clock import steady_clock
from propeller_fl.config import Settings
from propeller_fl.database_url import rounds_place
from propeller_fl.errors import BrokerError, ConfigError, LinkError
from propeller_fl.link import (
    BrokerAddress,
    BrokerSettings,
    ClusterNode,
    EmbeddedBroker,
    Link,
    LinkLoop,
)
from propeller_fl.login import broker_address
from propeller_fl.observe import Watch, open_traces

if TYPE_CHECKING:
    from propeller_fl.coordinator import Turns
    from propeller_fl.dashboard import DashboardGuard
    from propeller_fl.manager import ImageLibrary
    from propeller_fl.parts import HttpAccess
    from propeller_fl.proplet import Seat
    from propeller_fl.store import ModelsDir
    from propeller_fl.web import HttpGuard

_log = logging.getLogger(__name__)

_CONNECT_S: Final = 10.0
_STOP_HTTP_S: Final = 10.0


class Role(Flag):
    """What a process is to run."""

    BROKER = auto()
    COORDINATOR = auto()
    MANAGER = auto()
    MODEL_SERVER = auto()
    PROPLETS = auto()
    GATEWAY = auto()
    EXPERIMENTS = auto()
    DASHBOARD = auto()
    AGGREGATOR = auto()
    SERVICES = COORDINATOR | MANAGER | MODEL_SERVER
    ALL = BROKER | SERVICES | PROPLETS | EXPERIMENTS


def images_dir(settings: Settings) -> Path:
    """Where pulled images are kept."""
    return settings.data_dir / "manager" / "images"


def signatures_dir(settings: Settings) -> Path:
    """Where the manager looks for signatures of modules that have none beside them."""
    return settings.data_dir / "manager" / "signatures"


def image_library(settings: Settings) -> ImageLibrary:
    """Where these settings say that images come from."""
    from propeller_fl.manager import ImageLibrary, OciImages

    oci = OciImages(settings.registry, images_dir(settings))
    return ImageLibrary(settings.manager.images, {"oci": oci}, signatures_dir(settings))


@dataclass(frozen=True, slots=True)
class _Watched:
    name: str
    failure: Callable[[], BaseException | None]


class Deployment:
    """A context manager: everything in ``roles`` runs inside, and is stopped in reverse at the end.

    Raises what the services raise when they cannot start. ``address``, ``http_address``,
    ``gateway_address``, ``metrics_address`` and ``dashboard_address`` are valid inside.
    """

    def __init__(self, settings: Settings, roles: Role = Role.ALL) -> None:
        self.settings = settings
        self.http_address = ""
        self.gateway_address = ""
        self.metrics_address = ""
        self.dashboard_address = ""
        self.aggregator_name = ""
        self._roles = roles
        self._stack = contextlib.ExitStack()
        self._links: list[Link] = []
        self._turns: list[Turns] = []
        self._watched: list[_Watched] = []
        self._watch = Watch(enabled=settings.metrics.enabled, failure=self.failure)
        self._broker_error: BrokerError | None = None
        self._own_broker: EmbeddedBroker | None = None
        self._keyring = Keyring.of(settings)
        shown = self._login(self._keyring.any())
        self.address = replace(shown, username=None, password=None)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            traces = open_traces(self.settings.tracing)
            if traces is not None:
                stack.callback(traces.close)
                self._watch.has_traces(traces)
            if self.settings.metrics.enabled:
                self._start_metrics(stack)  # it tells why the others are not ready yet
            if Role.BROKER in self._roles and not self.settings.broker.url:
                self._start_broker(stack)
            if self._roles & ~Role.BROKER:
                loop = stack.enter_context(LinkLoop(name="services"))
                self._start_services(stack, loop)
            self._watch.readiness.started()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.readiness.stopping()
        self._stack.close()

    def failure(self) -> BaseException | None:
        """The error that ended one of the services, if one has; check it from time to time."""
        return next((error for step in self._watched if (error := step.failure())), None)

    def _start_broker(self, stack: contextlib.ExitStack) -> None:
        config = self.settings.broker
        desk = self._keyring.desk
        broker = EmbeddedBroker(
            self.settings.data_dir / "broker",
            BrokerSettings(host=config.host, port=config.port, memory_bytes=config.memory_bytes),
            security=desk.broker_security() if desk else None,
            node=ClusterNode(config.node, config.nodes) if config.node else None,
            allow_plain=config.allow_plain,
            on_death=self._broker_died,
        )
        broker.start()
        stack.callback(broker.stop)
        self._own_broker = broker
        self.address = broker.address
        self._watched.append(_Watched("broker", lambda: self._broker_error))
        _log.info("broker on %s, log in %s", broker.address, broker.log_path)

    def _broker_died(self, error: BrokerError) -> None:
        self._broker_error = error

    def _start_services(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        if Role.MODEL_SERVER in self._roles:
            self._start_model_server(stack, loop)
        if Role.COORDINATOR in self._roles:
            self._start_coordinator(stack, loop)
        if Role.MANAGER in self._roles:
            self._start_manager(stack, loop)
        if Role.EXPERIMENTS in self._roles:
            self._start_experiments(stack, loop)
        if Role.GATEWAY in self._roles:
            self._start_gateway(stack, loop)
        if Role.DASHBOARD in self._roles:
            self._start_dashboard(stack, loop)
        if Role.AGGREGATOR in self._roles:
            self._start_aggregator(stack, loop)
        self._await_links()  # before proplets introduce themselves to a manager that cannot hear
        if Role.PROPLETS in self._roles:
            self._start_proplets(stack)

    def _start_model_server(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        from propeller_fl.model_server import ModelServer
        from propeller_fl.store import ModelsDir

        settings = self.settings
        models = ModelsDir(settings.model_server.models_dir)
        stack.callback(models.close)
        server = ModelServer(
            self._link(stack, loop, AccessRole.MODEL_SERVER),
            settings.topics,
            settings.model_server,
            models,
            large=settings.large,
            guard=self._reading_guard(public=settings.model_server.public),
            watch=self._watch.watches_model_server(),
        )
        server.start()
        stack.callback(server.stop)
        self._watched.append(_Watched("model server", lambda: server.failure))
        self._watch.has_store("model server", models.directory)
        self._watch.has_model_server(server, lambda: _latest_version(models))
        host, port = server.http_address
        scheme = "https" if self._keyring.desk else "http"
        self.http_address = f"{scheme}://{host}:{port}"

    def _start_coordinator(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        """With a database it makes itself anew for each of its turns, since another may take over
        its rounds."""
        from propeller_fl.coordinator import Coordinator, Turns
        from propeller_fl.store import RoundStore, UpdateFiles

        settings, config = self.settings, self.settings.coordinator
        place = rounds_place(settings)
        files_dir = config.files_dir
        if files_dir is None and isinstance(place, Path):
            files_dir = place.with_name("large")
        watch = self._watch.watches_coordinator()

        def coordinator(
            link: Link, rounds: RoundStore, on_failure: Callable[[], None] = lambda: None
        ) -> Coordinator:
            return Coordinator(
                link,
                settings.topics,
                config,
                rounds,
                clock=steady_clock(),
                large=settings.large,
                files_dir=files_dir,
                watch=watch,
                on_failure=on_failure,
            )

        service: Coordinator | Turns
        if isinstance(place, Path):
            self._owned(stack, "coordinator")
            rounds = RoundStore(place)
            stack.callback(rounds.close)
            service = coordinator(self._link(stack, loop, AccessRole.COORDINATOR), rounds)
            self._watch.has_coordinator(service)
        else:
            service = turns = Turns(
                lambda: RoundStore(place),
                lambda: self._new_link(loop, AccessRole.COORDINATOR),
                coordinator,
                UpdateFiles(files_dir).identity() if files_dir else "",
            )
            self._watch.has_turns(turns)
            self._turns.append(turns)
        service.start()
        stack.callback(service.stop)
        self._watched.append(_Watched("coordinator", lambda: service.failure))

    def _start_manager(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        from propeller_fl.manager import Manager
        from propeller_fl.store import LaunchStore

        settings = self.settings
        launches = LaunchStore(self._owned(stack, "manager") / "launches.db")
        stack.callback(launches.close)
        manager = Manager(
            self._link(stack, loop, AccessRole.MANAGER),
            settings.topics,
            settings.manager,
            launches,
            images=image_library(settings),
            watch=self._watch.watches_manager(),
        )
        manager.start()
        self._watch.has_manager(manager)
        stack.callback(manager.stop)
        self._watched.append(_Watched("manager", lambda: manager.failure))

    def _start_experiments(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        from propeller_fl.experiments import ExperimentService
        from propeller_fl.store import ExperimentStore

        settings = self.settings
        store = ExperimentStore(self._owned(stack, "experiments") / "experiments.db")
        stack.callback(store.close)
        service = ExperimentService(
            self._link(stack, loop, AccessRole.EXPERIMENTS),
            settings.topics,
            store,
            liveness_timeout_s=settings.manager.liveness_timeout_s,
            clock=steady_clock(),
        )
        service.start()
        stack.callback(service.stop)
        self._watched.append(_Watched("experiments", lambda: service.failure))

    def _start_proplets(self, stack: contextlib.ExitStack) -> None:
        from propeller_fl.proplet import PropletHost

        settings = self.settings
        proplets = PropletHost(
            {name: self._seat(name) for name in settings.proplet.ids},
            settings.topics,
            settings.proplet,
            cache_dir=settings.data_dir / "compiled",
            keepalive_s=settings.broker.keepalive_s,
            large=settings.large,
            large_dir=settings.data_dir / "proplets" / "models",
            trusted_keys=settings.trusted_keys,
            http_access=self._http_access(),
            updates_dir=settings.data_dir / "proplets" / "updates",
            watch=self._watch.watches_proplets(),
        )
        proplets.start()
        self._watch.has_proplets(proplets)
        stack.callback(proplets.stop)
        self._await("proplets", proplets.wait_connected)

    def _start_aggregator(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        from propeller_fl.aggregator import Aggregator
        from propeller_fl.operator import Operator
        from propeller_fl.store import LocalRoundStore

        settings, directory = self.settings, self._owned(stack, "aggregator")
        store = LocalRoundStore(directory / "local-rounds.db")
        stack.callback(store.close)
        login = self._login(self._keyring.of_role(AccessRole.AGGREGATOR))
        aggregator = Aggregator(
            settings,
            self._link(stack, loop, AccessRole.AGGREGATOR),
            store,
            lambda: Operator(login, settings.topics),
            directory,
        )
        aggregator.start()
        stack.callback(aggregator.stop)
        self._watch.has_session(aggregator)
        self._await("upstream", aggregator.wait_connected)
        self.aggregator_name = f"{aggregator.proplet_id} of {aggregator.address}"

    def _start_gateway(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        from propeller_fl.gateway import Gateway, TaskBook, gateway_server
        from propeller_fl.proplet import data_source

        settings = self.settings
        book = TaskBook(self._owned(stack, "gateway") / "tasks.db")
        stack.callback(book.close)
        config, ids = settings.gateway, settings.proplet.ids
        gateway = Gateway(
            self._link(stack, loop, AccessRole.GATEWAY),
            self._login(self._keyring.of_role(AccessRole.GATEWAY)),
            settings.topics,
            config,
            book,
            data_source(config.data, ids) if config.data else None,
        )
        guard = self._http_guard(public=bool(config.open_routes))
        server = gateway_server(gateway, config, guard)
        stack.callback(gateway.stop)
        gateway.start()
        server.start()
        stack.callback(server.stop, _STOP_HTTP_S)
        self._watched.append(_Watched("gateway", lambda: server.failure))
        host, port = server.address
        scheme = "https" if guard.tls else "http"
        self.gateway_address = f"{scheme}://{host}:{port}"

    def _start_dashboard(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        """Where other services run as well, a page that cannot be shown keeps none of them back."""
        links = list(self._links)
        try:
            with contextlib.ExitStack() as own:
                self._show_dashboard(own, loop)
                stack.push(own.pop_all())
        except ConfigError as err:
            if self._roles == Role.DASHBOARD:
                raise
            self._links = links
            _log.warning("there is no page: %s", err)

    def _show_dashboard(self, stack: contextlib.ExitStack, loop: LinkLoop) -> None:
        from propeller_fl.dashboard import Dashboard, web_face

        config, guard = self.settings.dashboard, self._dashboard_guard()
        guard.check_host(config.http_host)
        name = f"dashboard-{uuid.uuid4().hex[:12]}"  # there may be several on one broker
        dashboard = Dashboard(
            self._link(stack, loop, AccessRole.DASHBOARD, name, clean_session=True),
            self.settings.topics,
            config,
            liveness_timeout_s=self.settings.manager.liveness_timeout_s,
        )
        server = web_face(dashboard, config, guard)
        stack.callback(server.stop, _STOP_HTTP_S)
        dashboard.start()
        stack.callback(dashboard.stop)
        server.start()
        self._watched.append(_Watched("dashboard", lambda: dashboard.failure or server.failure))
        host, port = server.address
        self.dashboard_address = f"{'https' if guard.tls else 'http'}://{host}:{port}"

    def _dashboard_guard(self) -> DashboardGuard:
        """Tokens are those of the deployment; they, not certificates, are a browser's login. With
        a credential alone there is nothing to look tokens up in, so that nobody may start rounds.
        """
        from propeller_fl.dashboard import DashboardGuard

        desk = self._keyring.desk
        if desk is None:
            return DashboardGuard(may_start=not self._keyring.given)
        return DashboardGuard(desk.server_context(public=True), TokenBook(desk).caller_of)

    def _login(self, credential: Credential | None) -> BrokerAddress:
        if self._own_broker is not None:
            place = self._own_broker.address
            return credential.address(place) if credential else place
        away = bool(self._keyring.given)
        return broker_address(self.settings.broker, credential, away=away)

    def _seat(self, proplet_id: str) -> Seat:
        from propeller_fl.proplet import Seat

        credential = self._keyring.of_proplet(proplet_id)
        if credential is None:
            return Seat(self._login(None))
        return Seat(self._login(credential), credential.client_id, credential.own_topics)

    def _start_metrics(self, stack: contextlib.ExitStack) -> None:
        from propeller_fl.observe import metrics_server

        config = self.settings.metrics
        guard = self._reading_guard(public=config.public)
        server = metrics_server(self._watch.app, config, guard)
        server.start()
        stack.callback(server.stop, _STOP_HTTP_S)
        self._watched.append(_Watched("metrics", lambda: server.failure))
        host, port = server.address
        self.metrics_address = f"{'https' if guard.tls else 'http'}://{host}:{port}"

    def _reading_guard(self, *, public: bool) -> HttpGuard:
        """``public``: who only reads needs no token."""
        guard = self._http_guard(public=public)
        return replace(guard, knows=None) if public else guard

    def _http_guard(self, *, public: bool) -> HttpGuard:
        """``public``: for who has no certificate as well."""
        from propeller_fl.web import HttpGuard

        desk = self._keyring.desk
        if desk is None:
            return HttpGuard()
        return HttpGuard(desk.server_context(public=public), TokenBook(desk).caller_of)

    def _http_access(self) -> HttpAccess | None:
        """As the first of our proplets, which fetches for all."""
        from propeller_fl.parts import HttpAccess

        credential = self._keyring.of_proplet(self.settings.proplet.ids[0])
        return HttpAccess(credential.token, credential.tls.context()) if credential else None

    def _link(
        self,
        stack: contextlib.ExitStack,
        loop: LinkLoop,
        role: AccessRole,
        name: str = "",
        *,
        clean_session: bool = False,
    ) -> Link:
        link = self._new_link(loop, role, name, clean_session=clean_session)
        stack.callback(link.close)
        self._links.append(link)
        self._watch.has_session(link)
        return link

    def _new_link(
        self, loop: LinkLoop, role: AccessRole, name: str = "", *, clean_session: bool = False
    ) -> Link:
        credential = self._keyring.of_role(role)
        return Link(
            loop,
            self._login(credential),
            credential.client_id if credential else name or role.value,
            clean_session=clean_session,
            keepalive_s=self.settings.broker.keepalive_s,
            mqtt5=self.settings.broker.mqtt5
            and role in (AccessRole.MANAGER, AccessRole.COORDINATOR),
        )

    def _await_links(self) -> None:
        """Ready means subscribed; for a broker that is not there yet the links go on trying."""
        for turns in self._turns:
            self._await("coordinator", turns.wait_placed)
        for link in self._links:
            self._await(link.client_id, link.wait_connected)

    @staticmethod
    def _await(name: str, wait_connected: Callable[[float], None]) -> None:
        try:
            wait_connected(_CONNECT_S)
        except LinkError as err:
            _log.warning("%s: %s; it goes on trying", name, err)

    def _owned(self, stack: contextlib.ExitStack, service: str) -> Path:
        """This service's directory, ours alone for as long as we run."""
        directory = self.settings.data_dir / service
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((directory / "lock").open("w"))
        except OSError as err:
            raise ConfigError(
                f"the {service} cannot use {directory}: {err.strerror}",
                hint=disk.remedy(err, "data_dir"),
            ) from err
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"another {service} runs on {directory}",
                hint="stop it, or give this one its own data_dir",
            ) from None
        self._watch.has_store(service, directory)
        return directory


def _latest_version(models: ModelsDir) -> int | None:
    latest = models.latest()
    return latest.version if latest else None
