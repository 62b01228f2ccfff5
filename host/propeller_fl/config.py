"""Settings: frozen dataclasses, filled from defaults < deployment < file < environment < flags.

The deployment's are those that ``propeller-fl init`` wrote into ``data_dir/settings.toml``, the
file's those of a TOML file.

A setting ``[section] name`` in the file is ``PROPELLER_FL_SECTION_NAME`` in the environment and
``section.name`` as a flag. The names of Propeller and of its demo are understood as well, below
ours (:mod:`propeller_fl.foreign`). Services receive their section as a value and read nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from propeller_fl.database_url import database_url_fault
from propeller_fl.errors import ConfigError
from propeller_fl.foreign import foreign_settings
from propeller_fl.wire import Format, Topics

DEPLOYMENT_FILE: Final = "settings.toml"  # in data_dir
ENV_PREFIX: Final = "PROPELLER_FL_"
_SECRET: Final = {"broker.url", "aggregator.upstream_url"}  # may hold a password
_MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
OPEN_ROUTES: Final = frozenset(("datasets", "models", "proplets", "rounds", "task", "tasks"))


def default_data_dir() -> Path:
    """Where state lives unless told otherwise, by the XDG base directory rules."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "propeller-fl"


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Which broker to talk to. An empty ``url``: ours, at ``host`` and ``port``."""

    url: str = ""  # mqtt://user:password@host:port or mqtts://…; a cluster's has a,b,c as its hosts
    node: str = ""  # ours is this node of a cluster, one of the next
    nodes: Mapping[str, str] = field(default_factory=dict)  # name=host:port, between the nodes
    host: str = "127.0.0.1"
    port: int = 1883
    password_file: Path | None = None  # read instead of a password in the url
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure: bool = False  # accept any certificate
    allow_plain: bool = False  # beyond this machine without TLS, ours also without logins
    keepalive_s: int = 30
    mqtt5: bool = False  # manager and coordinator ask for MQTT 5, and speak 3.1.1 where it is none
    memory_bytes: int = 256 * 1024 * 1024  # of ours, about; thousands of sessions want 256 KiB each


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """The task launcher."""

    liveness_timeout_s: float = 30.0  # silent for longer: not alive
    # image references that stand for a module at hand; what is not here is fetched by its scheme
    images: Mapping[str, str] = field(
        default_factory=lambda: {"oci://example/fl-client-wasm:latest": "builtin:linear"}
    )
    launch: bool = True  # false: forward updates and serve images, beside a manager of Propeller's
    chunk_bytes: int = 128 * 1024  # of an image for a proplet that asks for it in chunks
    # variables for every task; Propeller's proplets want MODEL_REGISTRY_URL, DATA_STORE_URL and
    # MANAGER_COORDINATOR_URL
    task_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """Where ``oci://`` images come from; logins are Docker's."""

    plain_http: tuple[str, ...] = ()  # host:port of those without TLS; loopback needs no naming
    ca_file: Path | None = None  # whom to trust, instead of the system's certificates
    timeout_s: float = 300.0  # of one pull or push


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """The owner of rounds."""

    max_update_bytes: int = 4 * 1024 * 1024
    model_format: Format = Format.JSON  # of the models it publishes
    max_model_bytes: int = 8 * 1024 * 1024  # of one it publishes; what our own broker takes
    model_grace_s: float = 2.0  # how long a round waits for its model to turn up on the broker
    keep_rounds: int = 1_000  # newest ended rounds, and model versions, that are kept; 0: all
    database_url: str = ""  # postgresql://user@host/database, which others may wait for; or a file
    database_password_file: Path | None = None  # the only place for that password
    files_dir: Path | None = None  # of large updates; with a database_url one that all of them see
    hung_after_s: float = 60.0  # a leader that is silent for so long makes room for another


@dataclass(frozen=True, slots=True)
class ModelServerConfig:
    """The keeper of published models."""

    models_dir: Path = Path("/tmp/fl-models")
    initial_model: str = "linear:3"  # version 0 where there is none; softmax:NxC, …, a file
    initial_format: Format = Format.JSON  # of that; boards want cbor, which is a third of the size
    http_host: str = "127.0.0.1"
    http_port: int = 8090  # 0: a free one
    public: bool = False  # in a deployment of `init`: whoever reaches it may read, without a token
    allow_plain: bool = False  # beyond this machine without TLS and tokens
    max_requests_per_s: float = 100.0  # of one identity, or address, in the long run


@dataclass(frozen=True, slots=True)
class PropletConfig:
    """The workers of this process."""

    ids: tuple[str, ...] = ("proplet-1", "proplet-2", "proplet-3")
    data: str = "tumors"  # a data set we ship, or a directory of {proplet_id}.json / .cbor files
    namespace: str = "default"
    heartbeat_s: float = 10.0  # at most a third of the manager's liveness_timeout_s
    workers: int = 0  # threads that run modules; 0: one a core
    fuel: int = 100_000_000_000  # Wasm instructions, about
    wall_time_s: float = 60.0
    memory_bytes: int = 64 * 1024 * 1024
    output_bytes: int = 4 * 1024 * 1024
    models_url: str = ""  # http://host:port of a model server: large models are read from there
    require_signature: bool = False  # run only modules that a trusted key has signed
    trusted_keys: Path | None = None  # their directory; default: trusted-keys in data_dir
    resend_after_s: float = 5.0  # first wait for an acknowledgement; doubles up to a minute


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Propeller's HTTP face. With ``enabled`` it is part of `up`."""

    enabled: bool = False
    http_host: str = "127.0.0.1"  # any other needs tokens and TLS
    http_port: int = 8080  # 0: a free one
    token_file: Path | None = None  # lines of "NAME TOKEN", beside the tokens of `init`
    allow_plain: bool = False  # beyond this machine without TLS
    open_routes: tuple[str, ...] = ()  # to be read without a token: models, rounds, …
    max_requests_per_s: float = 100.0  # of one identity, or address, in the long run
    wait_s: float = 15.0  # how long an answer over MQTT is waited for
    task_wasm_image: str = "oci://example/fl-client-wasm:latest"  # of an experiment that names none
    data: str = ""  # as proplet.data, of proplet.ids, to be had over HTTP; empty: no data are


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """The page. With ``enabled`` it is part of `up`."""

    enabled: bool = True
    http_host: str = "127.0.0.1"  # any other needs the tokens and TLS of a deployment of `init`
    http_port: int = 8091  # 0: a free one
    keep_rounds: int = 100  # newest rounds that it shows
    wait_s: float = 15.0  # how long an answer over MQTT is waited for


@dataclass(frozen=True, slots=True)
class AggregatorConfig:
    """A proplet of another deployment, upstream, that has the devices of this one do its tasks and
    answers with the sum of what they have learned."""

    id: str = "aggregator-1"  # as which proplet, unless the credential says so
    upstream_url: str = ""  # mqtt://user:password@host:port or mqtts://…; or the credential's
    upstream_credential: Path | None = None  # a file that `proplet enroll` made upstream
    upstream_topic_prefix: str = ""  # or the credential's
    upstream_password_file: Path | None = None  # read instead of a password in the url
    upstream_ca_file: Path | None = None
    devices: int = 0  # how many there are here: when all are alive none is waited for; 0: unknown
    gather_s: float = 15.0  # how long to listen who is alive; more than the devices' heartbeat
    min_local: int = 1  # fewest devices whose updates make one; with fewer nothing is sent
    k_fraction: float = 1.0  # of the devices that are alive: their updates end the wait early
    reserve_s: float = 5.0  # the wait ends so long before the round upstream; at most half of it
    timeout_s: float = 60.0  # of the wait where the end of the round upstream is not known


@dataclass(frozen=True, slots=True)
class LargeConfig:
    """Models that are too large for one message: they travel as a manifest and parts of a file."""

    above_bytes: int = 8 * 1024 * 1024  # of float32 numbers; less where the broker takes less
    part_bytes: int = 192 * 1024  # of one message
    window_parts: int = 16  # asked for at a time
    max_model_bytes: int = 640 * 1024 * 1024  # of one that is taken
    max_updates_bytes: int = 8 * 1024 * 1024 * 1024  # of all update files that a coordinator keeps


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Metrics for Prometheus, health and readiness of each process, over HTTP."""

    enabled: bool = False
    http_host: str = "127.0.0.1"
    http_port: int = 9464  # each process of one machine needs its own; 0: a free one
    public: bool = False  # in a deployment of `init`: whoever reaches it may read, without a token
    allow_plain: bool = False  # beyond this machine without TLS and tokens


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """OpenTelemetry traces, one a round; needs the extra ``trace`` of this package."""

    enabled: bool = False
    endpoint: str = "http://127.0.0.1:4318/v1/traces"  # of a collector: OTLP over HTTP
    file: Path | None = None  # write spans there instead, one a line, as JSON


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything."""

    data_dir: Path = field(default_factory=default_data_dir)
    topic_prefix: str = ""
    credentials: tuple[str, ...] = ()  # files that `propeller-fl init` and `enroll` made
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    manager: ManagerConfig = field(default_factory=ManagerConfig)
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    coordinator: CoordinatorConfig = field(default_factory=CoordinatorConfig)
    model_server: ModelServerConfig = field(default_factory=ModelServerConfig)
    proplet: PropletConfig = field(default_factory=PropletConfig)
    large: LargeConfig = field(default_factory=LargeConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    dashboard: DashboardConfig = field(default_factory=DashboardConfig)
    aggregator: AggregatorConfig = field(default_factory=AggregatorConfig)

    @property
    def trusted_keys(self) -> Path:
        """The directory of keys whose modules proplets run."""
        return self.proplet.trusted_keys or self.data_dir / "trusted-keys"

    @property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix)


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    command: str = "",
) -> Settings:
    """Read settings; raises :class:`ConfigError` naming the setting and where it came from.

    ``flags`` are dotted names (``model_server.models_dir``) with values or texts. ``command`` is
    who asks: Propeller has a name for the manager's broker and another for the proplet's.
    """
    given: dict[str, tuple[Any, str]] = {}
    if file is not None:
        given.update((name, (value, str(file))) for name, value in _read_file(file))
    environ = os.environ if environ is None else environ
    ours = dict(_read_environment(environ))
    ours.update((name, (value, "flag")) for name, value in (flags or {}).items())
    given.update(foreign_settings(environ, command, ours))
    given.update(ours)
    made = _deployment_file(given.get("data_dir"))
    if made is not None:
        given = {name: (value, str(made)) for name, value in _read_file(made)} | given
    settings: Settings = _build(Settings, "", given)
    if given:
        name, (_, origin) = next(iter(given.items()))
        raise ConfigError(
            f"{origin}: there is no setting {name!r}",
            hint="`propeller-fl config` prints them all",
        )
    _check(settings)
    return settings


def _deployment_file(data_dir: tuple[Any, str] | None) -> Path | None:
    """What ``init`` wrote there, if it did; a name that is no directory's is refused elsewhere."""
    try:
        directory = default_data_dir() if data_dir is None else _convert(data_dir[0], Path)
        made = Path(directory) / DEPLOYMENT_FILE
        return made if made.is_file() else None
    except (ValueError, TypeError, RuntimeError, OSError):
        return None


def describe(settings: Settings) -> dict[str, Any]:
    """All settings as plain values by section, passwords masked."""
    plain: dict[str, Any] = _plain(settings, "")
    return plain


def _read_file(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        document = tomllib.loads(file.read_text())
    except OSError as err:
        raise ConfigError(f"settings file {file}: {err.strerror}") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"settings file {file}: {err}") from err
    sections = {item.name for item, hint in _fields(Settings) if dataclasses.is_dataclass(hint)}
    for name, value in document.items():
        if name in sections and isinstance(value, dict):
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        else:
            yield name, value


def _read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[Any, str]]]:
    for name in _names(Settings, ""):
        variable = ENV_PREFIX + name.replace(".", "_").upper()
        if variable in environ:
            yield name, (environ[variable], variable)


def _names(kind: type, prefix: str) -> Iterator[str]:
    for item, hint in _fields(kind):
        if dataclasses.is_dataclass(hint):
            yield from _names(typing.cast(type, hint), f"{item.name}.")
        else:
            yield prefix + item.name


@functools.cache
def _fields(kind: type) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((item, hints[item.name]) for item in dataclasses.fields(kind))


def _build(kind: type, prefix: str, given: dict[str, tuple[Any, str]]) -> Any:
    values: dict[str, Any] = {}
    for item, hint in _fields(kind):
        name = prefix + item.name
        if dataclasses.is_dataclass(hint):
            values[item.name] = _build(typing.cast(type, hint), f"{name}.", given)
        elif name in given:
            value, origin = given.pop(name)
            try:
                values[item.name] = _convert(value, hint)
            # a whole number that is infinite overflows; ~ of a user there is not is a RuntimeError
            except (ValueError, TypeError, OverflowError, RuntimeError) as err:
                raise ConfigError(f"{origin}: {name} is {value!r}: {err}") from None
    return kind(**values)


def _convert(value: Any, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is types.UnionType:  # Path | None
        return None if value in (None, "") else _convert(value, typing.get_args(hint)[0])
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(str(item).strip() for item in items)
    if origin is Mapping:
        pairs = (
            dict(item.split("=", 1) for item in value.split(",") if item)
            if isinstance(value, str)
            else value
        )
        return {str(key): str(item) for key, item in dict(pairs).items()}
    if hint is bool:
        return _boolean(value)
    if hint in (int, float):
        if isinstance(value, bool):
            raise ValueError("a number is wanted")
        return hint(value)
    if hint is Path:
        return Path(value).expanduser()
    if hint is str and not isinstance(value, str):
        raise ValueError("text is wanted")
    return hint(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    match str(value).lower():
        case "true" | "yes" | "on" | "1":
            return True
        case "false" | "no" | "off" | "0":
            return False
    raise ValueError("true or false is wanted")


def _check(settings: Settings) -> None:
    Topics(settings.topic_prefix)  # raises on a bad one
    manager, proplet = settings.manager, settings.proplet
    _require(0 <= settings.broker.port < 65536, "broker.port", "0 to 65535")
    _require(
        bool(settings.broker.node) == bool(settings.broker.nodes),
        "broker.node",
        "with broker.nodes, of which it is one, or neither",
    )
    _require(settings.broker.keepalive_s >= 2, "broker.keepalive_s", "at least 2 s")
    _require(
        settings.broker.memory_bytes >= 32 * 1024 * 1024, "broker.memory_bytes", "at least 32 MiB"
    )
    _require(
        1024 <= manager.chunk_bytes <= _MAX_MESSAGE_BYTES // 2,
        "manager.chunk_bytes",
        "from 1 KiB to 4 MiB, and three quarters of what the broker takes in a message",
    )
    _require(manager.liveness_timeout_s > 0, "manager.liveness_timeout_s", "more than 0")
    _require(
        0 < proplet.heartbeat_s <= manager.liveness_timeout_s / 3,
        "proplet.heartbeat_s",
        "at most a third of manager.liveness_timeout_s, so that one lost beat is no death",
    )
    _require(settings.registry.timeout_s > 0, "registry.timeout_s", "more than 0")
    _require(proplet.resend_after_s > 0, "proplet.resend_after_s", "more than 0")
    _require(proplet.workers >= 0, "proplet.workers", "0 or more")
    _require(settings.coordinator.max_update_bytes > 0, "coordinator.max_update_bytes", "above 0")
    _require(
        0 < settings.coordinator.max_model_bytes <= _MAX_MESSAGE_BYTES,
        "coordinator.max_model_bytes",
        "above 0, at most 8 MiB, the largest message a link takes",
    )
    _require(settings.coordinator.model_grace_s >= 0, "coordinator.model_grace_s", "0 or more")
    _require(settings.coordinator.keep_rounds >= 0, "coordinator.keep_rounds", "0 or more")
    _require(settings.coordinator.hung_after_s >= 5, "coordinator.hung_after_s", "at least 5 s")
    if fault := database_url_fault(settings.coordinator.database_url):
        raise ConfigError(f"coordinator.database_url {fault[0]}", hint=fault[1])
    _require(0 <= settings.model_server.http_port < 65536, "model_server.http_port", "0 to 65535")
    _require(
        settings.model_server.max_requests_per_s > 0, "model_server.max_requests_per_s", "above 0"
    )
    gateway = settings.gateway
    _require(0 <= gateway.http_port < 65536, "gateway.http_port", "0 to 65535")
    _require(0 < gateway.wait_s <= 300, "gateway.wait_s", "above 0, at most 300 s")
    _require(gateway.max_requests_per_s > 0, "gateway.max_requests_per_s", "above 0")
    _require(
        set(gateway.open_routes) <= OPEN_ROUTES,
        "gateway.open_routes",
        f"some of {', '.join(sorted(OPEN_ROUTES))}, with commas between",
    )
    _require(0 <= settings.metrics.http_port < 65536, "metrics.http_port", "0 to 65535")
    dashboard = settings.dashboard
    _require(0 <= dashboard.http_port < 65536, "dashboard.http_port", "0 to 65535")
    _require(1 <= dashboard.keep_rounds <= 10_000, "dashboard.keep_rounds", "1 to 10,000")
    _require(0 < dashboard.wait_s <= 300, "dashboard.wait_s", "above 0, at most 300 s")
    aggregator = settings.aggregator
    Topics(aggregator.upstream_topic_prefix)  # raises on a bad one
    _require(aggregator.devices >= 0, "aggregator.devices", "0 or more")
    _require(aggregator.min_local >= 1, "aggregator.min_local", "at least 1")
    _require(0 < aggregator.k_fraction <= 1, "aggregator.k_fraction", "above 0, at most 1")
    _require(aggregator.gather_s >= 0, "aggregator.gather_s", "0 or more")
    _require(aggregator.reserve_s >= 0, "aggregator.reserve_s", "0 or more")
    _require(0 < aggregator.timeout_s <= 86_400, "aggregator.timeout_s", "above 0, at most a day")
    large = settings.large
    _require(large.above_bytes > 0, "large.above_bytes", "above 0")
    _require(
        4096 <= large.part_bytes <= _MAX_MESSAGE_BYTES,
        "large.part_bytes",
        "from 4 KiB to 8 MiB, and less than the broker takes in a message",
    )
    _require(
        0 < large.max_model_bytes <= large.part_bytes * 65_536,
        "large.max_model_bytes",
        "above 0, at most 65,536 parts of large.part_bytes",
    )
    _require(large.max_updates_bytes > 0, "large.max_updates_bytes", "above 0")
    _require(1 <= large.window_parts <= 256, "large.window_parts", "1 to 256")
    _require(
        not proplet.models_url or proplet.models_url.startswith(("http://", "https://")),
        "proplet.models_url",
        "http://host:port of a model server, or empty",
    )


def _require(holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is out of range", hint=rule)


def _plain(value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        prefix = f"{name}." if name else ""
        return {
            item.name: _plain(getattr(value, item.name), prefix + item.name)
            for item in dataclasses.fields(value)
        }
    if name in _SECRET and "@" in str(value):
        scheme, _, rest = str(value).partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
