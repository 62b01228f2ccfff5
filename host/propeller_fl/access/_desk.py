"""Where a deployment's identities are made, kept and taken back.

data_dir/settings.toml               what init was told: addresses, prefix
data_dir/access/                     mode 0700, files 0600
    identities.json                  who there is: names, roles, hashes, no secret
    authority.key, authority.pem     signs certificates; nothing else reads the key
    server.key, server.pem           of the broker and of HTTP
    credentials/{role}.json          one for each service
    proplets/{name}.json             the same for each proplet: what is copied to its machine
    nats-users.conf                  made of identities.json, for the embedded broker
data_dir/nodes/{name}/               what each node of a cluster needs: see ``_nodes``
data_dir/mosquitto/                  the same for mosquitto: mosquitto.conf, acl, passwords
"""

from __future__ import annotations

import datetime
import getpass
import json
import os
import secrets
import signal
import ssl
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from propeller_fl.access._authority import (
    KeyPair,
    new_authority,
    new_client,
    new_server,
)
from propeller_fl.access._credential import Credential
from propeller_fl.access._identity import (
    Identity,
    bcrypt_hash,
    new_secret,
    pbkdf2_hash,
    token_hash,
)
from propeller_fl.access._mosquitto import (
    MosquittoPlace,
    mosquitto_acl,
    mosquitto_conf,
    mosquitto_passwords,
)
from propeller_fl.access._nats import nats_users
from propeller_fl.access._nodes import (
    ROUTES_FILE,
    NodePlace,
    check_nodes,
    copy_to_node,
    write_node_settings,
)
from propeller_fl.access._permissions import (
    SERVICE_ROLES,
    AccessRole,
    Grants,
    check_identity,
    grants_of,
)
from propeller_fl.access._secret_files import locked, make_private, write_private
from propeller_fl.config import DEPLOYMENT_FILE
from propeller_fl.errors import BrokerError, ConfigError, RequestError
from propeller_fl.link import (
    BrokerAddress,
    BrokerSecurity,
    RouteSecurity,
    is_loopback,
    opens_session,
    reload_broker,
)
from propeller_fl.wire import Topics

_VERSION: Final = 1
_OURSELVES: Final = ("localhost", "127.0.0.1", "::1")
_RELOAD_S: Final = 15.0
_POLL_S: Final = 0.05

Broker = Literal["embedded", "mosquitto"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deployment is to be.

    ``hosts``                names and addresses under which others reach this machine; empty: it is
                             for this machine alone, and listens on loopback
    ``nodes``                of a cluster of embedded brokers; empty: one broker, on this machine
    ``client_certificates``  clients must show one as well (mutual TLS)
    ``shared_topics``        for Propeller's own proplets, who know no others: see ``grants_of``
    """

    hosts: tuple[str, ...] = ()
    broker: Broker = "embedded"
    port: int = 8883
    http_port: int = 8443
    gateway_port: int = 8444
    topic_prefix: str = ""
    client_certificates: bool = True
    shared_topics: bool = False
    nodes: tuple[NodePlace, ...] = ()

    def __post_init__(self) -> None:
        if self.nodes:
            check_nodes(self.nodes)
        if self.nodes and self.broker != "embedded":
            raise ConfigError(f"nodes are given, and {self.broker} makes no cluster")

    @property
    def listen(self) -> str:
        """The address to listen on."""
        return "127.0.0.1" if all(is_loopback(host) for host in self.hosts) else "0.0.0.0"

    @property
    def public_host(self) -> str:
        """The one that credentials name."""
        return self.hosts[0] if self.hosts else "127.0.0.1"

    @property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix)

    @property
    def broker_url(self) -> str:
        """Where clients find the broker."""
        if self.nodes:
            return f"mqtts://{','.join(node.place for node in self.nodes)}"
        return self.url("mqtts", self.port)

    def url(self, scheme: str, port: int) -> str:
        host = f"[{self.public_host}]" if ":" in self.public_host else self.public_host
        return f"{scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Revoked:
    name: str
    role: AccessRole
    serial: str
    at: str  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class _Book:
    """``identities.json``"""

    plan: Plan
    identities: tuple[Identity, ...] = ()
    revoked: tuple[Revoked, ...] = ()

    def find(self, name: str) -> Identity | None:
        return next((one for one in self.identities if one.name == name), None)

    def without(self, name: str) -> Self:
        return replace(self, identities=tuple(i for i in self.identities if i.name != name))

    def encode(self) -> bytes:
        return json.dumps({"version": _VERSION, **asdict(self)}, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes, path: Path) -> Self:
        try:
            document = json.loads(data)
            if document["version"] != _VERSION:
                raise ConfigError(f"{path} is of version {document['version']!r}, not {_VERSION}")
            plan = document["plan"]
            return cls(
                Plan(
                    **{
                        **plan,
                        "hosts": tuple(plan["hosts"]),
                        "nodes": tuple(NodePlace(**one) for one in plan.get("nodes", ())),
                    }
                ),
                tuple(_with_role(Identity, one) for one in document["identities"]),
                tuple(_with_role(Revoked, one) for one in document["revoked"]),
            )
        except (ValueError, KeyError, TypeError) as err:
            raise ConfigError(
                f"{path} cannot be read: {type(err).__name__}", hint="restore it from a copy"
            ) from err


@dataclass(frozen=True, slots=True)
class _Login:
    """A credential, and whether the broker ought to know it."""

    credential: Credential
    valid: bool

    def address(self, plan: Plan) -> BrokerAddress:
        return self.credential.address(BrokerAddress("127.0.0.1", plan.port))


class AccessDesk:
    """Issues and takes back credentials of the deployment at ``data_dir``.

    Every method raises :class:`ConfigError` when files cannot be read or written. Changes by
    several processes wait for one another, and the running broker has taken them up when a method
    returns.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._directory = self._data_dir / "access"
        self._book_file = self._directory / "identities.json"

    @classmethod
    def at(cls, data_dir: Path) -> Self | None:
        """That of an existing deployment; ``None`` where ``init`` was not run."""
        desk = cls(data_dir)
        return desk if desk._book_file.exists() else None

    @classmethod
    def init(cls, data_dir: Path, plan: Plan, proplets: Iterable[str] = ()) -> Self:
        """Make a deployment with a credential for each service and each of ``proplets``.

        Raises :class:`ConfigError` where there is one already.
        """
        desk = cls(data_dir)
        names = [check_identity(name, AccessRole.PROPLET) for name in dict.fromkeys(proplets)]
        Topics(plan.topic_prefix)
        make_private(desk._data_dir)
        for directory in (desk._directory, desk._credentials, desk._proplets):
            make_private(directory)
        with desk._locked():
            if desk._book_file.exists():
                raise ConfigError(
                    f"{desk._data_dir} is a deployment already",
                    hint="`propeller-fl access list` shows it; init a new directory, "
                    "or remove this one",
                )
            authority = new_authority(f"propeller-fl {secrets.token_hex(4)}")
            desk._write_pair("authority", authority)
            desk._write_pair("server", new_server(authority, [*plan.hosts, *_OURSELVES]))
            book = _Book(plan)
            for role in SERVICE_ROLES:
                book = desk._issue(book, role.value, role, authority)
            for name in names:
                book = desk._issue(book, name, AccessRole.PROPLET, authority)
            desk._write_settings(plan)
            desk._write_users(book)
            for node in plan.nodes:
                write_node_settings(desk.node_directory(node.name), node, plan.nodes)
            desk._write_node_servers(plan, authority)
            write_private(desk._book_file, book.encode())  # last: now it is a deployment
            desk._tell_nodes(plan)
        return desk

    @property
    def plan(self) -> Plan:
        return self._book().plan

    def identities(self) -> tuple[Identity, ...]:
        return self._book().identities

    def revoked(self) -> tuple[Revoked, ...]:
        return self._book().revoked

    def server(self) -> KeyPair:
        return self._pair("server")

    def path_of(self, name: str, role: AccessRole) -> Path:
        """Where the credential of this identity lies, or would."""
        folder = self._proplets if role is AccessRole.PROPLET else self._credentials
        return folder / f"{name}.json"

    def node_directory(self, name: str) -> Path:
        """Of a node of the cluster: what is carried to its machine."""
        return self._data_dir / "nodes" / name

    def enroll(self, name: str, *, replacing: bool = False) -> Path:
        """Issue a credential to the proplet ``name``: the file to be carried to its machine.

        With ``replacing``, an earlier one is taken back at once. Raises :class:`RequestError` for a
        proplet that has one, without it.
        """
        check_identity(name, AccessRole.PROPLET)
        with self._locked():
            book = self._book()
            if book.find(name) is not None and not replacing:
                raise RequestError(
                    f"{name} is enrolled already",
                    hint="`--replace` gives it a new credential, and takes the old one back",
                )
            book = self._issue(book, name, AccessRole.PROPLET, self._pair("authority"))
            path = self.path_of(name, AccessRole.PROPLET)
            self._change(book, _Login(Credential.load(path), valid=True))
        return path

    def rotate(self, name: str) -> Path:
        """A new credential for an identity that has one, which is taken back at once; or the first
        for a service that there was none of yet when the deployment was made. A service must be
        started again to use it. Raises :class:`RequestError` if there is no such identity.
        """
        with self._locked():
            book = self._book()
            if book.find(name) is None and name in SERVICE_ROLES:
                role, client_id = AccessRole(name), ""
            else:
                identity = self._known(book, name)
                role = identity.role
                client_id = identity.client_id  # its session, with all that waits there, stays
            book = self._issue(book, name, role, self._pair("authority"), client_id=client_id)
            path = self.path_of(name, role)
            self._change(book, _Login(Credential.load(path), valid=True))
        return path

    def revoke(self, name: str) -> None:
        """Take a proplet's credential back: the running broker hangs up on it before this returns,
        and neither it nor the model server knows it any more. Raises :class:`RequestError`."""
        with self._locked():
            book = self._book()
            identity = self._known(book, name)
            if identity.role is not AccessRole.PROPLET:
                raise RequestError(
                    f"{name} is a service of this deployment",
                    hint=f"`propeller-fl access rotate {name}` makes its credential void, "
                    "and issues another",
                )
            gone = Revoked(name, identity.role, identity.serial, _now())
            book = replace(book.without(name), revoked=(*book.revoked, gone))
            path = self.path_of(name, AccessRole.PROPLET)
            login = _Login(Credential.load(path), valid=False) if path.exists() else None
            self._change(book, login)
            path.unlink(missing_ok=True)

    def renew_server(self, hosts: Iterable[str] = ()) -> None:
        """A new certificate for broker and HTTP server, for ``hosts`` if there are any. The broker
        shows it from now on, the model server when it is started again."""
        with self._locked():
            book = self._book()
            hosts = tuple(hosts) or book.plan.hosts
            authority = self._pair("authority")
            self._write_pair("server", new_server(authority, [*hosts, *_OURSELVES]))
            self._write_node_servers(book.plan, authority)
            self._change(replace(book, plan=replace(book.plan, hosts=hosts)))

    @property
    def stamp(self) -> tuple[int, int]:
        """Another one after every change of the identities; costs less than to read them."""
        try:
            found = self._book_file.stat()
        except OSError as err:
            raise ConfigError(f"{self._book_file}: {err.strerror}") from err
        return found.st_ino, found.st_mtime_ns

    def server_context(self, *, public: bool) -> ssl.SSLContext:
        """TLS for an HTTP server; clients must show a certificate where the plan says so, unless
        ``public``."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.server_files)
        if self.plan.client_certificates and not public:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._directory / "authority.pem")
        return context

    def broker_security(self) -> BrokerSecurity:
        """For the embedded broker."""
        path = self.path_of(AccessRole.BROKER.value, AccessRole.BROKER)
        return BrokerSecurity(
            certificate=self.server_files[0],
            key=self.server_files[1],
            authority=self._directory / "authority.pem" if self.plan.client_certificates else None,
            users=self._directory / "nats-users.conf",
            own_login=Credential.load(path).address(BrokerAddress("127.0.0.1", self.plan.port)),
            routes=self._route_security() if self.plan.nodes else None,
        )

    def _route_security(self) -> RouteSecurity:
        path = self._directory / ROUTES_FILE
        try:
            return RouteSecurity(self._directory / "authority.pem", path.read_text().strip())
        except OSError as err:
            raise ConfigError(f"{path}: {err.strerror}") from err

    @property
    def server_files(self) -> tuple[Path, Path]:
        """Certificate and key of the server, PEM."""
        return self._directory / "server.pem", self._directory / "server.key"

    # --- files

    @property
    def _credentials(self) -> Path:
        return self._directory / "credentials"

    @property
    def _proplets(self) -> Path:
        return self._directory / "proplets"

    @property
    def _mosquitto(self) -> Path:
        return self._data_dir / "mosquitto"

    def _locked(self) -> Any:
        return locked(self._directory / "lock")

    def _book(self) -> _Book:
        try:
            data = self._book_file.read_bytes()
        except OSError as err:
            raise ConfigError(
                f"{self._book_file}: {err.strerror}", hint="`propeller-fl init` makes a deployment"
            ) from err
        return _Book.decode(data, self._book_file)

    def _pair(self, name: str) -> KeyPair:
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        try:
            return KeyPair(
                x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER),
                load_pem_private_key(key.read_bytes(), None).private_bytes(
                    Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
                ),
            )
        except OSError as err:
            raise ConfigError(f"{err.filename}: {err.strerror}") from err
        except (ValueError, TypeError) as err:
            raise ConfigError(f"{certificate} or {key} cannot be read: {err}") from err

    def _write_pair(self, name: str, pair: KeyPair) -> None:
        _write_pair(self._directory, name, pair)

    def _write_settings(self, plan: Plan) -> None:
        broker: dict[str, Any] = {"host": plan.listen, "port": plan.port}
        if plan.broker == "mosquitto":
            broker = {"url": plan.broker_url, "mqtt5": True}
        elif plan.nodes:
            broker = {"url": plan.broker_url}
        sections = {
            "broker": broker,
            "model_server": {
                "http_host": plan.listen,
                "http_port": plan.http_port,
                "models_dir": str(self._data_dir / "models"),
            },
            "gateway": {"http_host": plan.listen, "http_port": plan.gateway_port},
        }
        lines = ["# Made by `propeller-fl init`; yours to change."]
        lines += [f"topic_prefix = {json.dumps(plan.topic_prefix)}"]
        for section, values in sections.items():
            lines += ["", f"[{section}]"]
            # a string, number or boolean of JSON is one of TOML
            lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        write_private(self._data_dir / DEPLOYMENT_FILE, ("\n".join(lines) + "\n").encode())

    def _write_users(self, book: _Book) -> None:
        granted = [(identity, _grants(book.plan, identity)) for identity in book.identities]
        if book.plan.broker == "embedded":
            write_private(self._directory / "nats-users.conf", nats_users(granted).encode())
            return
        make_private(self._mosquitto)
        certificate, key = self.server_files
        place = MosquittoPlace(
            book.plan.listen,
            book.plan.port,
            getpass.getuser(),
            self._mosquitto,
            certificate,
            key,
            self._directory / "authority.pem",
            book.plan.client_certificates,
        )
        users = [(one, grants) for one, grants in granted if one.role is not AccessRole.BROKER]
        for name, text in (
            ("mosquitto.conf", mosquitto_conf(place)),
            ("acl", mosquitto_acl(users)),
            ("passwords", mosquitto_passwords(identity for identity, _ in users)),
        ):
            write_private(self._mosquitto / name, text.encode())

    # --- identities

    def _known(self, book: _Book, name: str) -> Identity:
        identity = book.find(name)
        if identity is None:
            raise RequestError(
                f"nobody is named {name} here", hint="`propeller-fl access list` names them all"
            )
        return identity

    def _issue(
        self, book: _Book, name: str, role: AccessRole, authority: KeyPair, client_id: str = ""
    ) -> _Book:
        """The book with this identity, whose credential is written; any earlier one is out."""
        plan = book.plan
        pair = new_client(authority, name) if plan.client_certificates else KeyPair(b"", b"")
        password, token = new_secret(), new_secret()
        credential = Credential(
            name=name,
            role=role,
            broker=plan.broker_url,
            models=plan.url("https", plan.http_port),
            topic_prefix=plan.topic_prefix,
            own_topics=not plan.shared_topics,
            client_id=client_id or _client_id(name),
            password=password,
            token=token,
            authority=authority.certificate,
            certificate=pair.certificate,
            key=pair.key,
        )
        write_private(self.path_of(name, role), credential.encode())
        identity = Identity(
            name,
            role,
            credential.client_id,
            _now(),
            serial=pair.serial if pair.certificate else "",
            bcrypt=bcrypt_hash(password),
            pbkdf2=pbkdf2_hash(password),
            token_sha256=token_hash(token),
        )
        return replace(book.without(name), identities=(*book.without(name).identities, identity))

    def _change(self, book: _Book, login: _Login | None = None) -> None:
        """Make ``book`` true, for the running broker too; ``login`` is one it is about."""
        write_private(self._book_file, book.encode())
        self._write_users(book)
        if book.plan.nodes:
            self._tell_nodes(book.plan)
        elif book.plan.broker == "embedded":
            reload_broker(self._data_dir / "broker", _RELOAD_S)
        else:
            self._reload_mosquitto(book.plan, login)

    def _write_node_servers(self, plan: Plan, authority: KeyPair) -> None:
        """A certificate for each node of the cluster, and the password that all of them know."""
        routes = self._directory / ROUTES_FILE
        if plan.nodes and not routes.exists():
            write_private(routes, new_secret().encode())
        for node in plan.nodes:
            pair = new_server(authority, [node.host, *_OURSELVES], also_client=True)
            _write_pair(self.node_directory(node.name) / "access", "server", pair)

    def _tell_nodes(self, plan: Plan) -> None:
        """Bring the nodes' directories up to date; those that run from there take it up."""
        for node in plan.nodes:
            directory = self.node_directory(node.name)
            copy_to_node(self._directory, directory)
            reload_broker(directory / "broker", _RELOAD_S)

    def _reload_mosquitto(self, plan: Plan, login: _Login | None) -> None:
        try:
            pid = int((self._mosquitto / "mosquitto.pid").read_text())
            if _runs_mosquitto(pid):
                os.kill(pid, signal.SIGHUP)
                self._await_mosquitto(plan, login)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return  # it does not run, and will read the files as they are
        except PermissionError as err:
            raise BrokerError(
                "the running mosquitto is another user's, and keeps its old users until it is told",
                hint="as root: kill -HUP with the number in mosquitto/mosquitto.pid",
            ) from err

    @staticmethod
    def _await_mosquitto(plan: Plan, login: _Login | None) -> None:
        """It says nothing when it has read its files again; whom it lets in tells."""
        deadline_s = time.monotonic() + _RELOAD_S
        while login is not None and opens_session(login.address(plan)) is not login.valid:
            if time.monotonic() > deadline_s:
                raise BrokerError(
                    f"mosquitto has not taken its users up again within {_RELOAD_S:g} s",
                    hint="its log says why; end it, and it has to",
                )
            time.sleep(_POLL_S)


def _write_pair(directory: Path, name: str, pair: KeyPair) -> None:
    write_private(directory / f"{name}.key", pair.key_pem().encode())
    write_private(directory / f"{name}.pem", pair.certificate_pem().encode())


def _grants(plan: Plan, identity: Identity) -> Grants:
    return grants_of(identity.role, plan.topics, identity.name, shared_topics=plan.shared_topics)


def _client_id(name: str) -> str:
    """nats-server takes none with a dot in it."""
    return f"{name.replace('.', '~')}-{secrets.token_hex(8)}"


def _runs_mosquitto(pid: int) -> bool:
    """Whether this process is one; another may have its number by now."""
    try:
        return b"mosquitto" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return not Path("/proc/self").exists()  # where there is no such folder, believe the file


def _with_role(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**{**values, "role": AccessRole(values["role"])})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
