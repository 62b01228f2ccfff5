"""Sessions on brokers that want to know who we are, or that prove who they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest

from propeller_fl.errors import ConfigError, LinkError
from propeller_fl.link import BrokerAddress, Incoming, Link, LinkLoop, TlsOptions

from ..support.brokers import (
    Certificates,
    RunningBroker,
    make_certificates,
    mosquitto,
)
from .conftest import QUICK, Connect


def refusal(loop: LinkLoop, address: BrokerAddress) -> str:
    """What a link says that tries to connect there."""
    link = Link(loop, address, "stranger", backoff=QUICK)
    link.start()
    with pytest.raises(LinkError) as caught:
        link.wait_connected(10)
    link.abort()
    return str(caught.value)


def test_right_and_wrong_password(tmp_path: Path, loop: LinkLoop, connect: Connect) -> None:
    with mosquitto(tmp_path, password="open sesame") as broker:
        connect(broker.address, "friend").publish("a", b"").wait(5)
        said = refusal(loop, replace(broker.address, password="open barley"))
        assert "Not authorized" in said
        assert "check user, password" in said
        assert "barley" not in said
        assert "Not authorized" in refusal(loop, BrokerAddress("127.0.0.1", broker.address.port))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
def tls_broker(tmp_path: Path, certificates: Certificates) -> Iterator[RunningBroker]:
    with mosquitto(tmp_path, tls=certificates) as broker:
        yield broker


def test_tls_round_trip(tls_broker: RunningBroker, connect: Connect) -> None:
    sizes: SimpleQueue[int] = SimpleQueue()

    def handle(incoming: Incoming) -> None:
        sizes.put(len(incoming.payload))
        incoming.ack()

    link = connect(tls_broker.address, "one")
    link.subscribe("a", handle).wait(5)
    expected = [0, 1, 100_000, 3_000_000, *[500] * 300]
    for size_bytes in expected:
        link.publish("a", b"\x07" * size_bytes)
    assert [sizes.get(timeout=10) for _ in expected] == expected


def test_unknown_authority_is_refused(tls_broker: RunningBroker, loop: LinkLoop) -> None:
    said = refusal(loop, replace(tls_broker.address, tls=TlsOptions()))
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "check ca_file" in said


def test_name_that_is_not_in_the_certificate(tls_broker: RunningBroker, loop: LinkLoop) -> None:
    assert "localhost" in refusal(loop, replace(tls_broker.address, host="localhost"))


def test_insecure_accepts_any_certificate(tls_broker: RunningBroker, connect: Connect) -> None:
    connect(replace(tls_broker.address, host="localhost", tls=TlsOptions(insecure=True)), "one")


def first_error(loop: LinkLoop, address: BrokerAddress) -> str:
    errors: SimpleQueue[LinkError] = SimpleQueue()
    link = Link(loop, address, "stranger", backoff=QUICK)
    link.on_error = errors.put
    link.start()
    try:
        return str(errors.get(timeout=10))
    finally:
        link.abort()


def test_plain_session_on_a_tls_port(tls_broker: RunningBroker, loop: LinkLoop) -> None:
    assert "TLS port" in first_error(loop, replace(tls_broker.address, tls=None))


def test_tls_on_a_plain_port(broker: RunningBroker, loop: LinkLoop) -> None:
    tls = TlsOptions(insecure=True)
    assert "speak TLS" in first_error(loop, replace(broker.address, tls=tls))


def test_unusable_tls_files(tmp_path: Path, loop: LinkLoop, certificates: Certificates) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    faults = {
        "no TLS file at .*absent": TlsOptions(ca_file=tmp_path / "absent"),
        "unusable TLS file among .*junk": TlsOptions(ca_file=junk),
        "without a certificate": TlsOptions(key_file=certificates.key),
        "unusable TLS file among .*ca.pem.*server.key": TlsOptions(
            cert_file=certificates.ca, key_file=certificates.key
        ),
    }
    for fault, options in faults.items():
        with pytest.raises(ConfigError, match=fault):
            Link(loop, BrokerAddress("127.0.0.1", 1, tls=options), "one")
