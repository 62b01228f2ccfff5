"""Where a broker is, as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from propeller_fl.errors import ConfigError
from propeller_fl.link import BrokerAddress, TlsOptions


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("mqtt://broker:1884", BrokerAddress("broker", 1884), "mqtt://broker:1884"),
        ("mqtt://broker", BrokerAddress("broker", 1883), "mqtt://broker:1883"),
        ("broker:1884", BrokerAddress("broker", 1884), "mqtt://broker:1884"),
        ("broker", BrokerAddress("broker", 1883), "mqtt://broker:1883"),
        ("mqtt://[::1]:9", BrokerAddress("::1", 9), "mqtt://[::1]:9"),
        ("mqtt://me@broker/", BrokerAddress("broker", 1883, "me"), "mqtt://me@broker:1883"),
        (
            "mqtt://me:p%40ss%2F@broker",
            BrokerAddress("broker", 1883, "me", "p@ss/"),
            "mqtt://me:***@broker:1883",
        ),
        (
            "mqtts://broker",
            BrokerAddress("broker", 8883, tls=TlsOptions()),
            "mqtts://broker:8883",
        ),
        (
            "a:1,b",
            BrokerAddress("a", 1, others=(("b", 1883),)),
            "mqtt://a:1,b:1883",
        ),
        (
            "mqtts://me:p,w@a,[::1]:9,c/",
            BrokerAddress("a", 8883, "me", "p,w", TlsOptions(), (("::1", 9), ("c", 8883))),
            "mqtts://me:***@a:8883,[::1]:9,c:8883",
        ),
    ],
)
def test_parse(text: str, expected: BrokerAddress, shown: str) -> None:
    address = BrokerAddress.parse(text)
    assert address == expected
    assert str(address) == shown


def test_tls_options_are_kept() -> None:
    options = TlsOptions(ca_file=Path("ca.pem"))
    assert BrokerAddress.parse("mqtts://broker", tls=options).tls is options


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no host"),
        ("mqtt://", "no host"),
        ("mqtt://:1883", "no host"),
        ("bro ker:1883", "no host"),
        ("tcp://broker", "unknown scheme 'tcp'"),
        ("ws://broker/mqtt", "unknown scheme 'ws'"),
        ("broker:0", "port 0"),
        ("broker:70000", "cannot be read"),
        ("broker:mqtt", "cannot be read"),
        ("::1", "cannot be read"),
        ("mqtt://broker/topic", "nothing may follow"),
        ("mqtt://broker?x", "nothing may follow"),
        ("mqtt://:word@broker", "without a user"),
    ],
)
def test_fault_is_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        BrokerAddress.parse(text)
    assert "mqtts://user:password@host:port" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("mqtt://a,,b", "no host"),
        ("mqtt://a,", "no host"),
        ("mqtt://a,b:0", "port 0"),
        ("mqtt://a,b:x", "cannot be read"),
        ("mqtt://a,mqtt://b", "cannot be read|nothing may follow"),
        ("mqtt://a,b/topic", "nothing may follow"),
        ("mqtt://a,b,a:1883", "the same place twice"),
        ("mqtt://me:word@a,me:word@b", "more than one login"),
    ],
)
def test_fault_among_several_is_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        BrokerAddress.parse(text)


def test_each_place_of_a_cluster_has_the_login_and_is_somebodys_first() -> None:
    address = BrokerAddress.parse("mqtts://me:word@a,b,c:9")
    assert [str(place) for place in address.places] == [
        f"mqtts://me:***@{place}" for place in ("a:8883", "b:8883", "c:9")
    ]
    assert {place.password for place in address.places} == {"word"}
    homes = [address.home_of(f"proplet-{n}") for n in range(300)]
    assert homes == [address.home_of(f"proplet-{n}") for n in range(300)]
    assert min(homes.count(home) for home in range(3)) > 60
    assert BrokerAddress("a", 1).home_of("anybody") == 0


def test_a_cluster_is_near_when_all_of_it_is() -> None:
    assert BrokerAddress.parse("mqtt://localhost,127.0.0.2").is_loopback
    assert not BrokerAddress.parse("mqtt://localhost,broker").is_loopback


def test_tls_options_without_tls() -> None:
    with pytest.raises(ConfigError, match="not mqtts"):
        BrokerAddress.parse("mqtt://broker", tls=TlsOptions())


_SECRETIVE = [
    "tcp://me:hush@broker",
    "mqtt://me:hush/@broker",
    "me:hush@b:x",
    "mqtt://me:hush://@broker",
    "ws://me:hush@a://b@broker",
    "mqtt://me:hush@a,me:hush@b",
]


@pytest.mark.parametrize("text", _SECRETIVE)
def test_password_is_never_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerAddress.parse(text)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "hush" not in repr(BrokerAddress("broker", 1, "me", "hush"))
