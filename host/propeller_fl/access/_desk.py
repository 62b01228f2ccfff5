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
import secrets
import ssl
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

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
from propeller_fl.access._book import Book, Plan, Revoked
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
from propeller_fl.access._mosquitto_reload import Login, reload_mosquitto
from propeller_fl.access._nats import nats_users
from propeller_fl.access._nodes import (
    ROUTES_FILE,
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
from propeller_fl.errors import ConfigError, RequestError
from propeller_fl.link import (
    BrokerAddress,
    BrokerSecurity,
    RouteSecurity,
    reload_broker,
)
from propeller_fl.wire import Topics

_OURSELVES: Final = ("localhost", "127.0.0.1", "::1")
_RELOAD_S: Final = 15.0


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
            book = Book(plan)
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
            self._change(book, Login(Credential.load(path), valid=True))
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
            self._change(book, Login(Credential.load(path), valid=True))
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
            login = Login(Credential.load(path), valid=False) if path.exists() else None
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
        """For the embedded broker. What an older program wrote of who may do what is brought up to
        what this one grants."""
        users = self._users_file
        if not users.exists() or users.read_bytes() != _nats_users(self._book()):
            with self._locked():
                self._write_users(self._book())
        path = self.path_of(AccessRole.BROKER.value, AccessRole.BROKER)
        return BrokerSecurity(
            certificate=self.server_files[0],
            key=self.server_files[1],
            authority=self._directory / "authority.pem" if self.plan.client_certificates else None,
            users=users,
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
    def _users_file(self) -> Path:
        return self._directory / "nats-users.conf"

    @property
    def _mosquitto(self) -> Path:
        return self._data_dir / "mosquitto"

    def _locked(self) -> Any:
        return locked(self._directory / "lock")

    def _book(self) -> Book:
        try:
            data = self._book_file.read_bytes()
        except OSError as err:
            raise ConfigError(
                f"{self._book_file}: {err.strerror}", hint="`propeller-fl init` makes a deployment"
            ) from err
        return Book.decode(data, self._book_file)

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

    def _write_users(self, book: Book) -> None:
        if book.plan.broker == "embedded":
            write_private(self._users_file, _nats_users(book))
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
        users = [
            (one, grants) for one, grants in _granted(book) if one.role is not AccessRole.BROKER
        ]
        for name, text in (
            ("mosquitto.conf", mosquitto_conf(place)),
            ("acl", mosquitto_acl(users)),
            ("passwords", mosquitto_passwords(identity for identity, _ in users)),
        ):
            write_private(self._mosquitto / name, text.encode())

    # --- identities

    def _known(self, book: Book, name: str) -> Identity:
        identity = book.find(name)
        if identity is None:
            raise RequestError(
                f"nobody is named {name} here", hint="`propeller-fl access list` names them all"
            )
        return identity

    def _issue(
        self, book: Book, name: str, role: AccessRole, authority: KeyPair, client_id: str = ""
    ) -> Book:
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

    def _change(self, book: Book, login: Login | None = None) -> None:
        """Make ``book`` true, for the running broker too; ``login`` is one it is about."""
        write_private(self._book_file, book.encode())
        self._write_users(book)
        if book.plan.nodes:
            self._tell_nodes(book.plan)
        elif book.plan.broker == "embedded":
            reload_broker(self._data_dir / "broker", _RELOAD_S)
        else:
            reload_mosquitto(self._mosquitto, book.plan.port, login, _RELOAD_S)

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


def _write_pair(directory: Path, name: str, pair: KeyPair) -> None:
    write_private(directory / f"{name}.key", pair.key_pem().encode())
    write_private(directory / f"{name}.pem", pair.certificate_pem().encode())


def _nats_users(book: Book) -> bytes:
    return nats_users(_granted(book)).encode()


def _granted(book: Book) -> list[tuple[Identity, Grants]]:
    return [(identity, _grants(book.plan, identity)) for identity in book.identities]


def _grants(plan: Plan, identity: Identity) -> Grants:
    return grants_of(identity.role, plan.topics, identity.name, shared_topics=plan.shared_topics)


def _client_id(name: str) -> str:
    """nats-server takes none with a dot in it."""
    return f"{name.replace('.', '~')}-{secrets.token_hex(8)}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
