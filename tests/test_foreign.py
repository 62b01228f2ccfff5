"""The environment of Propeller and of its demo, as its own compose files set it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from propeller_fl import config
from propeller_fl.cli import main
from propeller_fl.config import Settings
from propeller_fl.errors import ConfigError
from propeller_fl.login import broker_address

# what the manager, the coordinator and one proplet of the demo are given
MANAGER = {
    "MANAGER_LOG_LEVEL": "info",
    "MANAGER_MQTT_ADDRESS": "tcp://mqtt-adapter:1883",
    "MANAGER_MQTT_QOS": "2",
    "MANAGER_DOMAIN_ID": "d-1",
    "MANAGER_CHANNEL_ID": "c-1",
    "MANAGER_CLIENT_ID": "m-1",
    "MANAGER_CLIENT_KEY": "s3cr&t/",
    "MANAGER_HTTP_PORT": "",
}
PROPLET = {
    "PROPLET_MQTT_ADDRESS": "ssl://adapter:8883",
    "PROPLET_TENANT_ID": "d-1",
    "PROPLET_CHANNEL_ID": "c-1",
    "PROPLET_ENTITY_ID": "p-1",
    "PROPLET_API_KEY": "k-1",
    "PROPLET_LIVELINESS_INTERVAL": "1m0.5s",
    "MODEL_REGISTRY_URL": "http://model-registry:8081",
}
COORDINATOR = {
    "MQTT_BROKER": "tcp://fluxmq-node1:1883",
    "MQTT_USERNAME": "co-1",
    "MQTT_PASSWORD": "k-2",
    "MODELS_DIR": "/models",
    "REGISTRY_PORT": "8081",
}
ALL = MANAGER | PROPLET | COORDINATOR


def load(command: str, environ: dict[str, str], **flags: object) -> Settings:
    flags.setdefault("manager.liveness_timeout_s", 300)
    flags.setdefault("broker.allow_plain", True)  # their brokers are reached without TLS
    return config.load(environ=environ, flags=flags, command=command)


def test_a_manager_reads_its_own() -> None:
    settings = load("manager", ALL)
    address = broker_address(settings.broker)
    assert (address.host, address.port, address.tls) == ("mqtt-adapter", 1883, None)
    assert (address.username, address.password) == ("m-1", "s3cr&t/")
    assert settings.topic_prefix == "m/d-1/c/c-1"


def test_a_proplet_reads_its_own_and_is_who_its_login_says() -> None:
    settings = load("proplet", ALL)
    address = broker_address(settings.broker)
    assert (address.host, address.port, address.tls is not None) == ("adapter", 8883, True)
    assert (address.username, address.password) == ("p-1", "k-1")
    assert settings.proplet.ids == ("p-1",)
    assert settings.proplet.heartbeat_s == pytest.approx(60.5)
    assert settings.proplet.models_url == "http://model-registry:8081"


@pytest.mark.parametrize("command", ["coordinator", "model-server"])
def test_the_others_read_the_general_names_and_share_the_managers_channel(command: str) -> None:
    settings = load(command, ALL)
    address = broker_address(settings.broker)
    assert (address.host, address.username, address.password) == ("fluxmq-node1", "co-1", "k-2")
    assert settings.topic_prefix == "m/d-1/c/c-1"
    assert str(settings.model_server.models_dir) == "/models"
    assert settings.model_server.http_port == 8081


def test_an_operator_goes_where_the_manager_is() -> None:
    assert broker_address(load("start", MANAGER | PROPLET).broker).host == "mqtt-adapter"


def test_our_own_names_and_flags_are_above_them() -> None:
    ours = {"PROPELLER_FL_BROKER_URL": "mqtt://ours:1", "PROPELLER_FL_TOPIC_PREFIX": ""}
    settings = load("manager", ALL | ours, **{"model_server.http_port": 1})
    assert settings.broker.url == "mqtt://ours:1"
    assert settings.topic_prefix == ""
    assert settings.model_server.http_port == 1


def test_what_is_overruled_is_not_even_wrong() -> None:
    wrong = {"PROPLET_MQTT_ADDRESS": "x:y:z", "MANAGER_DOMAIN_ID": "d", "MANAGER_CLIENT_KEY": "k"}
    flags = {"broker.url": "mqtt://h:1", "topic_prefix": "p"}
    assert load("up", wrong, **flags).broker.url == "mqtt://h:1"
    ours = {"PROPELLER_FL_BROKER_URL": "mqtt://h:1", "PROPELLER_FL_TOPIC_PREFIX": "p"}
    assert load("up", wrong | ours).topic_prefix == "p"


def test_a_login_in_the_address_stays() -> None:
    environ = COORDINATOR | {"MQTT_BROKER": "mqtt://u:p@h:1"}
    assert load("coordinator", environ).broker.url == "mqtt://u:p@h:1"


def test_empty_is_not_set_and_an_identity_alone_starts_nothing() -> None:
    environ = dict.fromkeys(ALL, "") | {"PROPLET_CLIENT_ID": "proplet-1"}
    settings = load("proplet", environ)
    assert settings.broker.url == ""
    assert settings.topic_prefix == ""
    assert settings.proplet.ids == ("proplet-1",)


@pytest.mark.parametrize(
    ("command", "environ", "says"),
    [
        ("manager", {"MANAGER_MQTT_ADDRESS": "ws://h:8080/mqtt"}, "MANAGER_MQTT_ADDRESS"),
        ("manager", {"MANAGER_MQTT_ADDRESS": "tcp://:secret@h:x"}, "MANAGER_MQTT_ADDRESS"),
        ("manager", {"MANAGER_CLIENT_KEY": "secret"}, "MANAGER_ENTITY_ID"),
        ("manager", {"MANAGER_DOMAIN_ID": "d"}, "without MANAGER_CHANNEL_ID"),
        ("manager", {"MANAGER_CHANNEL_ID": "c"}, "without MANAGER_TENANT_ID"),
        ("proplet", PROPLET | {"PROPLET_CHANNEL_ID": "a/#"}, "PROPLET_CHANNEL_ID"),
        ("proplet", {"PROPLET_LIVELINESS_INTERVAL": "soon"}, "PROPLET_LIVELINESS_INTERVAL"),
        ("proplet", {"MODEL_REGISTRY_URL": "registry"}, "proplet.models_url"),
        ("model-server", {"REGISTRY_PORT": "eighty"}, "REGISTRY_PORT"),
        ("up", ALL, "PROPLET_MQTT_ADDRESS"),
        ("up", {"PROPLET_MQTT_ADDRESS": "tcp://h"}, "without MANAGER_MQTT_ADDRESS"),
    ],
)
def test_a_bad_one_is_named(command: str, environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(command, environ)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_command_line_says_who_asks() -> None:
    environ = MANAGER | {"PROPELLER_FL_BROKER_PORT": "x"}
    result = CliRunner(env=environ).invoke(main, ["proplet"])
    assert "PROPELLER_FL_BROKER_PORT" in result.output  # the manager's names are not asked
    result = CliRunner(env=MANAGER | {"MANAGER_CHANNEL_ID": ""}).invoke(main, ["manager"])
    assert result.output.startswith("error: MANAGER_DOMAIN_ID is set without MANAGER_CHANNEL_ID")
    result = CliRunner(env=MANAGER).invoke(main, ["config"])
    assert json.loads(result.output)["broker"]["url"] == "mqtt://***@mqtt-adapter:1883"
