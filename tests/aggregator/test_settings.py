"""Who an aggregator is upstream, and what its settings may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from propeller_fl import config
from propeller_fl.access import AccessDesk, AccessRole, Plan
from propeller_fl.aggregator import Aggregator
from propeller_fl.errors import ConfigError
from propeller_fl.link import BrokerAddress, Link, LinkLoop
from propeller_fl.operator import Operator
from propeller_fl.store import LocalRoundStore

LOCAL = BrokerAddress("127.0.0.1", 1)  # nobody is there, and nobody connects


def made(directory: Path, **flags: Any) -> Aggregator:
    named = {f"aggregator.{name}": value for name, value in flags.items()}
    settings = config.load(environ={}, flags={"data_dir": directory} | named)
    store = LocalRoundStore(directory / "rounds.db")
    try:
        link = Link(LinkLoop(), LOCAL, "aggregator")
        return Aggregator(
            settings, link, store, lambda: Operator(LOCAL, settings.topics), directory
        )
    finally:
        store.close()


def test_without_a_credential_the_settings_say_who_it_is(tmp_path: Path) -> None:
    aggregator = made(tmp_path, id="barn", upstream_url="mqtt://u:secret@127.0.0.1:1234")
    assert (aggregator.proplet_id, str(aggregator.address)) == ("barn", "mqtt://127.0.0.1:1234")


def test_a_credential_of_another_role_is_refused(tmp_path: Path) -> None:
    upstream = AccessDesk.init(tmp_path / "upstream", Plan())
    path = upstream.path_of("operator", AccessRole.OPERATOR)
    with pytest.raises(ConfigError, match="is of the operator, not of a proplet"):
        made(tmp_path, upstream_credential=path)


def test_without_upstream_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the broker of the deployment to take part in"):
        made(tmp_path)


def test_upstream_beyond_this_machine_wants_tls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1:1883 is not this machine"):
        made(tmp_path, upstream_url="mqtt://10.0.0.1:1883")


@pytest.mark.parametrize(
    ("name", "value"),
    [("devices", -1), ("min_local", 0), ("k_fraction", 0), ("k_fraction", 1.1), ("gather_s", -1),
     ("reserve_s", -1), ("timeout_s", 0), ("timeout_s", 86_401), ("upstream_topic_prefix", "/a")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError):
        config.load(environ={}, flags={f"aggregator.{name}": value})


def test_the_password_upstream_is_not_shown() -> None:
    settings = config.load(environ={}, flags={"aggregator.upstream_url": "mqtt://u:secret@h:1"})
    assert config.describe(settings)["aggregator"]["upstream_url"] == "mqtt://***@h:1"
