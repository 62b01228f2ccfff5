"""Targets: what reads topics, addresses, settings, references to images, and Wasm binaries."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Final

import wasmtime

from propeller_fl import config
from propeller_fl.errors import ConfigError, ImageError, MessageError, PropellerError
from propeller_fl.link import BrokerAddress
from propeller_fl.link._topics import check_filter, check_topic
from propeller_fl.manager import ImageLibrary
from propeller_fl.model_server import initial_model
from propeller_fl.proplet import check_module, data_source
from propeller_fl.wire import (
    Model,
    Topics,
    image_sha256,
    image_uri,
    model_uri,
    model_version,
)
from tests.fuzz.mutate import byte_mutator
from tests.fuzz.target import Broken, Target, raised_at
from tests.fuzz.wasm_mutate import mutate_wasm
from tests.fuzz.wasm_seeds import module_seeds

_SECRET: Final = "hunter2-hunter2"
_ALLOWED_TOPIC_BYTES: Final = 65_535
_LARGE_MODEL: Final = re.compile(r"(activity|linear|softmax):[0-9x]{7,}")


def text_targets() -> Iterator[Target]:
    """One for each reader of texts, and the contract's reader of modules."""
    yield _target("topics", MessageError, _check_topics, _TOPICS)
    yield _target("topic-filters", MessageError, _check_filters, _TOPICS)
    yield _target("topic-prefix", ConfigError, _check_prefix, ["m/tenant/c/channel", "a", ""])
    yield _target("broker-address", ConfigError, _check_address, _ADDRESSES)
    yield _target("settings-file", ConfigError, _check_settings_file, _SETTINGS_FILES)
    yield _target("settings-values", ConfigError, _check_settings_values, _SETTINGS_VALUES)
    yield _target("data-setting", ConfigError, _check_data_setting, _DATA_SETTINGS)
    yield _target("initial-model", ConfigError, _check_initial_model, _INITIAL_MODELS)
    yield _target("image-reference", ImageError, _check_image_reference, _IMAGES)
    yield Target("module-contract", _check_module, mutate_wasm, module_seeds)


def _target(
    name: str, error_type: type[PropellerError], check: Callable[[str], Hashable], seeds: list[str]
) -> Target:
    tokens = sorted({token for seed in seeds for token in re.findall(r"\w+|\W", seed)} | _TOKENS)

    def attempt(data: bytes) -> Hashable:
        try:
            return check(data.decode(errors="replace"))
        except PropellerError as error:
            if not isinstance(error, error_type):
                raise Broken(f"a {type(error).__name__} came out") from error
            return raised_at(error)

    return Target(
        name,
        attempt,
        byte_mutator([token.encode(errors="surrogatepass") for token in tokens]),
        lambda: [seed.encode() for seed in seeds],
    )


# topics


def _check_topics(text: str) -> Hashable:
    """What is taken apart is put together again as it was; without a prefix, and under one."""
    kinds = [_topic_kind(topics, text) for topics in (Topics(), Topics("m/t"))]
    version = model_version(text)
    digest = image_sha256(text)
    if version is not None and model_uri(version) != text:
        raise Broken(f"version {version} of {text!r}")
    if digest is not None and image_uri(digest) != text:
        raise Broken(f"digest {digest} of {text!r}")
    return tuple(kinds), version is None, digest is None


def _topic_kind(topics: Topics, text: str) -> Hashable:
    relative = topics.relative(text)
    if relative is not None and topics.absolute(relative) != text:
        raise Broken(f"{text!r} is {relative!r} without its prefix")
    if (ids := topics.parse_update(text)) is not None:
        rebuilt = topics.update(*ids)
    elif (ids := topics.parse_ack(text)) is not None:
        rebuilt = topics.ack(*ids)
    elif (round_id := topics.parse_round_stop(text)) is not None:
        rebuilt = topics.round_stop(round_id)
    elif (round_id := topics.parse_launch(text)) is not None:
        rebuilt = topics.launch(round_id)
    elif (version := topics.parse_model(text)) is not None:
        rebuilt = topics.model(version)
    else:
        return relative is None
    if rebuilt != text:
        raise Broken(f"{text!r} is put together as {rebuilt!r}")
    return rebuilt.count("/")


def _check_filters(text: str) -> Hashable:
    """A topic that may be published on is a filter that may be subscribed to."""
    check_filter(text)
    check_topic(text)
    if len(text.encode()) > _ALLOWED_TOPIC_BYTES or not text.isprintable():
        raise Broken(f"{text[:80]!r} is no topic")
    return "topic"


def _check_prefix(text: str) -> Hashable:
    topics = Topics(text)
    if topics.relative(topics.round_start) != "fl/rounds/start":
        raise Broken(f"{topics.round_start!r} does not lie under {text!r}")
    return text.count("/")


# addresses and settings


def _check_address(text: str) -> Hashable:
    """The password is in no text that people see, whatever stands around it."""
    head, _, tail = text.partition("\n")
    if tail:
        text = f"{head}://user:{_SECRET}@{tail}"
    try:
        address = BrokerAddress.parse(text)
    except ConfigError as error:
        _no_secret(f"{error} {error!r}")
        raise
    _no_secret(f"{address} {address!r}")
    if not address.host or not 0 < address.port < 65_536:
        raise Broken(f"{text!r} is {address!r}")
    return address.tls is None, address.username is None, address.password is None


def _no_secret(shown: str) -> None:
    if _SECRET in shown:
        raise Broken(f"a password is shown: {shown!r}")


@functools.cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="propeller-fl-fuzz-"))


def _check_settings_file(text: str) -> Hashable:
    file = _scratch() / "settings.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    return _describe(config.load(file, environ={}))


def _check_settings_values(text: str) -> Hashable:
    """Lines NAME=VALUE: variables of the environment, or flags where the name has a dot."""
    pairs = [line.partition("=")[::2] for line in text.split("\n")]
    return _describe(
        config.load(
            environ={name: value for name, value in pairs if "." not in name},
            flags={name: value for name, value in pairs if "." in name},
        )
    )


def _describe(settings: config.Settings) -> Hashable:
    json.dumps(config.describe(settings))
    return settings == config.load(environ={})


def _check_data_setting(text: str) -> Hashable:
    source = data_source(text, ["proplet-1", "proplet-2"])
    return type(source).__name__, type(source.data_of("proplet-2")).__name__


def _check_initial_model(text: str) -> Hashable:
    if _LARGE_MODEL.match(text):  # an operator may ask for large ones; not a hundred a second
        return "large"
    model = Model.decode(initial_model(text))
    if model.version != 0:
        raise Broken(f"the first model has version {model.version}")
    return tuple(model.tensors)


def _check_image_reference(text: str) -> Hashable:
    image = _library().fetch(text)
    return len(image.data)


@functools.cache
def _library() -> ImageLibrary:
    return ImageLibrary({"oci://example/fl:latest": "builtin:linear"})


# modules


def _check_module(data: bytes) -> Hashable:
    """A module that is said to keep the contract is one that Wasmtime accepts."""
    report = check_module(data)
    if report.ok:
        wasmtime.Module.validate(_engine(), data)
    return tuple(finding.code for finding in report.findings)


@functools.cache
def _engine() -> wasmtime.Engine:
    return wasmtime.Engine()


# seeds

_TOPICS: Final = [
    "fl/rounds/r-0001/updates/proplet-1",
    "fl/rounds/r-0001/acks/proplet-1",
    "fl/models/global_model_v0",
    "fl/models/global_model_v999999999999999999",
    "fl/images/" + "0123456789abcdef" * 4,
    "m/t/fl/rounds/r-0001/updates/proplet-1",
    "m/t/fl/models/global_model_v12",
    "fl/rounds/+/updates/+",
    "control/manager/start/proplet-1",
    "fl/#",
]
_ADDRESSES: Final = [
    "mqtt://127.0.0.1:1883",
    "mqtts://user:p%40ss@[::1]:8883/",
    "broker.local",
    "mqtt\nlocalhost:1883",
    "mqtts\n[fe80::1%25eth0]",
    "mqtt://a:b@c\nd",
]
_SETTINGS_FILES: Final = [
    'topic_prefix = "m/t"\n[broker]\nurl = "mqtt://u:p@h:1"\nport = 1\ninsecure = true\n',
    '[manager]\nliveness_timeout_s = 30\nimages = { "oci://a" = "builtin:linear" }\n',
    '[proplet]\nids = ["a", "b"]\ndata = "digits@1/3"\nheartbeat_s = 0.5\nworkers = 2\n',
    '[coordinator]\nmax_update_bytes = 9\nmodel_format = "cbor"\n',
    '[model_server]\nmodels_dir = "~/models"\nhttp_port = 0\n',
]
_SETTINGS_VALUES: Final = [
    "MQTT_BROKER=mqtt://h:1\nMODELS_DIR=/tmp/m\nPROPELLER_FL_BROKER_PORT=1",
    "broker.insecure=yes\nproplet.ids=a,b\nproplet.heartbeat_s=1e0\nmanager.images=a=b,c=d",
    "MANAGER_MQTT_ADDRESS=tcp://h:1\nMANAGER_CLIENT_ID=a\nMANAGER_CLIENT_KEY=k\n"
    "MANAGER_DOMAIN_ID=d\nMANAGER_CHANNEL_ID=c\nPROPLET_LIVELINESS_INTERVAL=1m5s",
    "PROPELLER_FL_PROPLET_WALL_TIME_S=nan\nproplet.fuel=10\nbroker.ca_file=~/x",
]
_DATA_SETTINGS: Final = [
    "digits",
    "tumors:dirichlet=0.5",
    "digits:shards=2@3/10",
    "digits:iid@1/2",
    "~nobody/data",
    ".",
]
_INITIAL_MODELS: Final = ["linear:3", "softmax:4x2", "softmax:4x3x2", "~nobody/model.json", "."]
_IMAGES: Final = [
    "builtin:linear",
    "oci://example/fl:latest",
    "file:///etc/hostname",
    "file://localhost/x%00y",
    "file://[",
    "modules/x.wasm",
    "https://example.org/x.wasm",
]
_TOKENS: Final = frozenset(
    ["\0", "\ufeff", "\u2028", "%00", "~", "..", "[", "]", "://", "@", "\r\n", "1e309", "nan"]
)
