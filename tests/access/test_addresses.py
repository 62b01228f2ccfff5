"""Nothing goes beyond this machine without TLS, unless somebody says so."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from propeller_fl.config import BrokerConfig, load
from propeller_fl.errors import ConfigError
from propeller_fl.login import broker_address


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://broker.example",
        "mqtt://user:pass@192.0.2.7:1883",
        "mqtt://localhost.example",
        "mqtt://[2001:db8::1]",
    ],
)
def test_plain_and_far_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="without TLS anybody can read") as caught:
        broker_address(BrokerConfig(url=url))
    assert "broker.allow_plain" in caught.value.hint
    assert "pass" not in str(caught.value).replace("password", "")
    assert broker_address(BrokerConfig(url=url, allow_plain=True)).tls is None


@pytest.mark.parametrize(
    "url", ["", "mqtt://127.0.0.1", "mqtt://127.8.9.10", "mqtt://[::1]", "mqtt://localhost"]
)
def test_plain_and_here_is_not(url: str) -> None:
    assert broker_address(BrokerConfig(url=url)).is_loopback


def test_tls_goes_anywhere() -> None:
    assert broker_address(BrokerConfig(url="mqtts://broker.example")).tls is not None


def test_our_own_broker_everywhere_is_reached_here() -> None:
    assert broker_address(BrokerConfig(host="0.0.0.0")).host == "127.0.0.1"


@pytest.mark.parametrize("data_dir", [5, ["a"], "a\0b", "~nobody-of-that-name/x", "x" * 5000])
def test_a_data_dir_that_cannot_be_is_a_fault_of_the_settings(data_dir: object) -> None:
    with contextlib.suppress(ConfigError):
        load(environ={}, flags={"data_dir": data_dir})


def test_flags_and_environment_win_over_what_init_wrote(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('topic_prefix = "a"\n[broker]\nport = 1\nhost = "h"\n')
    environ = {"PROPELLER_FL_BROKER_PORT": "2"}
    settings = load(environ=environ, flags={"data_dir": str(tmp_path), "topic_prefix": "b"})
    assert (settings.topic_prefix, settings.broker.port, settings.broker.host) == ("b", 2, "h")
