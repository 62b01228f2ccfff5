"""What makes a cluster, what each node is told, and what is carried to its machine."""

from __future__ import annotations

import dataclasses
import json
import ssl
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from propeller_fl import config
from propeller_fl.access import AccessDesk, Credential, NodePlace, Plan, board_settings
from propeller_fl.cli import main
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import ConfigError
from propeller_fl.link import BrokerSettings, ClusterNode, EmbeddedBroker

NODES = tuple(NodePlace.parse(f"n{n}=10.0.0.{n}") for n in (1, 2, 3))
ROUTES = {node.name: node.route for node in NODES}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n1=broker-1", NodePlace("n1", "broker-1", 8883, 6222)),
        ("n1=10.0.0.1:1", NodePlace("n1", "10.0.0.1", 1, 6222)),
        ("n1=[::1]:1:2", NodePlace("n1", "::1", 1, 2)),
    ],
)
def test_a_node_as_it_is_written(text: str, expected: NodePlace) -> None:
    assert NodePlace.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "n1", "n1=", "n1=a:b", "n1=a:1:2:3", "n1=a:0", "n1=a:1:70000"]
)
def test_what_is_no_node(text: str) -> None:
    with pytest.raises(ConfigError, match="a node is"):
        NodePlace.parse(text)


@pytest.mark.parametrize(
    ("name", "nodes", "fault"),
    [
        ("a", {"a": "h:1"}, "1 nodes"),
        ("a", {"a": "h:1", "b": "h:2", "c": "h:3", "d": "h:4"}, "4 nodes"),
        ("d", {"a": "h:1", "b": "h:2", "c": "h:3"}, "none of the cluster's"),
        ("a", {"a": "h:1", "b": "h:2", "c": "h:1"}, "same place"),
        ("a", {"a": "h:1", "b": "h:2", "c": "h"}, "is at 'h'"),
        ("a", {"a": "h:1", "b": "h:2", "c": "u:p@h:3"}, "is at"),
        ("a", {"a": "h:1", "b": "h:2", "c d": "h:3"}, "name is 'c d'"),
    ],
)
def test_what_makes_no_cluster(name: str, nodes: dict[str, str], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        ClusterNode(name, nodes)


def test_a_cluster_beyond_this_machine_wants_tls_and_logins(tmp_path: Path) -> None:
    node = ClusterNode("n1", ROUTES)
    with pytest.raises(ConfigError, match="without TLS and logins"):
        EmbeddedBroker(tmp_path, BrokerSettings(), node=node)
    EmbeddedBroker(tmp_path, BrokerSettings(), node=node, allow_plain=True)


def test_the_settings_name_a_node_with_its_nodes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"broker\.node is out of range"):
        config.load(environ={}, flags={"broker.node": "n1"})
    text = ",".join(f"{name}={route}" for name, route in ROUTES.items())
    flags = {"data_dir": str(tmp_path), "broker.node": "n4", "broker.nodes": text}
    settings = config.load(environ={}, flags=flags)
    assert settings.broker.nodes == ROUTES
    with (
        pytest.raises(ConfigError, match="'n4' is none of the cluster's"),
        Deployment(settings, Role.BROKER),
    ):
        pass


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cluster") / "farm"
    arguments = [f"--node={node.name}={node.host}" for node in NODES]
    made = CliRunner().invoke(
        main, ["--data-dir", str(directory), "init", "--proplets=p-1,p-2", *arguments]
    )
    assert made.exit_code == 0, made.output
    for node in NODES:
        assert f"nodes/{node.name} broker" in made.output
    return directory


def test_each_node_is_told_of_the_others_and_of_three_copies(farm: Path) -> None:
    for node in NODES:
        directory = farm / "nodes" / node.name
        settings = config.load(environ={}, flags={"data_dir": str(directory)})
        assert (settings.broker.host, settings.broker.port) == ("0.0.0.0", 8883)
        desk = AccessDesk.at(directory)
        assert desk is not None
        security = desk.broker_security()
        broker = EmbeddedBroker(
            directory / "broker",
            BrokerSettings(host=settings.broker.host, port=settings.broker.port),
            security=security,
            node=ClusterNode(settings.broker.node, settings.broker.nodes),
        )
        told = json.loads(json.dumps(broker.config()))
        assert told["server_name"] == node.name
        assert (told["mqtt"]["stream_replicas"], told["mqtt"]["consumer_replicas"]) == (3, 3)
        cluster = told["cluster"]
        assert (cluster["host"], cluster["port"]) == ("0.0.0.0", 6222)
        assert {route.rpartition("@")[2] for route in cluster["routes"]} == {
            other.route for other in NODES if other is not node
        }
        password = cluster["authorization"]["password"]
        assert len(password) >= 40
        assert all(f":{password}@" in route for route in cluster["routes"])
        assert cluster["tls"]["verify"] is True
        assert cluster["tls"]["cert_file"] == told["mqtt"]["tls"]["cert_file"]
        assert password not in repr(security)


def test_a_node_has_a_certificate_of_its_own_for_both_ends(farm: Path) -> None:
    keys = set()
    for node in NODES:
        access = farm / "nodes" / node.name / "access"
        found = x509.load_pem_x509_certificate((access / "server.pem").read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert node.host in {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
        uses = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
        keys.add((access / "server.key").read_bytes())
        ssl.create_default_context().load_cert_chain(access / "server.pem", access / "server.key")
    assert len(keys) == len(NODES)


def test_what_is_carried_to_a_node_lets_nobody_in_but_brokers(farm: Path) -> None:
    carried = farm / "nodes" / "n1"
    for path in [carried, *carried.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert not (carried / "access" / "authority.key").exists()
    assert [path.name for path in carried.rglob("credentials/*")] == ["broker.json"]
    assert not list(carried.rglob("proplets/*"))


def test_credentials_name_all_nodes_and_a_board_has_one(farm: Path) -> None:
    desk = AccessDesk.at(farm)
    assert desk is not None
    assert desk.plan == Plan(nodes=NODES)
    found = {}
    for name in ("p-1", "p-2"):
        credential = Credential.load(farm / "access" / "proplets" / f"{name}.json")
        address = credential.address()
        assert [(place.host, place.port) for place in address.places] == [
            (node.host, 8883) for node in NODES
        ]
        found[name] = dict(board_settings(credential))["broker_host"]
    many = {
        dict(board_settings(dataclasses.replace(credential, name=f"b-{n}")))["broker_host"]
        for n in range(40)
    }
    assert many == {node.host for node in NODES}
    assert set(found.values()) <= many


def test_an_enrolled_proplet_is_in_what_is_carried_and_the_command_says_so(farm: Path) -> None:
    done = CliRunner().invoke(main, ["--data-dir", str(farm), "proplet", "enroll", "p-3"])
    assert done.exit_code == 0, done.output
    assert "if n2 runs elsewhere: copy" in done.output
    for node in NODES:
        access = farm / "nodes" / node.name / "access"
        assert '"p-3"' in (access / "nats-users.conf").read_text()
    read = CliRunner().invoke(main, ["--data-dir", str(farm / "nodes" / "n1"), "access", "reload"])
    assert (read.exit_code, "no broker runs" in read.output) == (0, True), read.output


def test_mosquitto_makes_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mosquitto makes no cluster"):
        AccessDesk.init(tmp_path / "x", Plan(broker="mosquitto", nodes=NODES))


def test_two_nodes_at_one_place_are_none(tmp_path: Path) -> None:
    nodes = tuple(NodePlace(name, "127.0.0.1") for name in ("a", "b", "c"))
    with pytest.raises(ConfigError, match="at the same place"):
        Plan(nodes=nodes)
