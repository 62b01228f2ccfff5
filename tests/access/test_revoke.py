"""Running brokers learn at once who has come and who is out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from propeller_fl.access import AccessDesk, AccessRole, Credential, Plan
from propeller_fl.link import opens_session
from tests.access.brokers import Guarded, guarded
from tests.access.sessions import PATIENCE_S, session
from tests.support.wait import wait_until


@pytest.fixture(scope="module", params=["nats", "mosquitto"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("deployment")
    with guarded(request.param, directory, proplets=["stays", "goes"]) as running:
        yield running


def test_revoked_means_out_and_nobody_else_notices(broker: Guarded) -> None:
    address = broker.address("goes")
    with (
        session(broker.address("stays"), "stays") as stays,
        session(address, "goes") as goes,
        session(broker.address("manager"), "manager") as manager,
    ):
        assert manager.subscribe(["control/proplet/alive/+"], qos=1) == [True]
        broker.desk.revoke("goes")
        assert goes.down.wait(PATIENCE_S)
        assert not opens_session(address)
        stays.publish([("control/proplet/alive/stays", "still here")])
        wait_until(lambda: manager.heard, PATIENCE_S, "a word of who stays")
        assert not stays.down.is_set()
        assert not manager.down.is_set()
    assert not broker.desk.path_of("goes", AccessRole.PROPLET).exists()


def test_enrolled_means_in_and_replaced_means_the_old_one_is_out(broker: Guarded) -> None:
    first = Credential.load(broker.desk.enroll("comes"))
    assert opens_session(first.address(broker.place))
    second = Credential.load(broker.desk.enroll("comes", replacing=True))
    assert opens_session(second.address(broker.place))
    assert not opens_session(first.address(broker.place))


def test_a_certificate_of_another_authority_does_not_get_as_far_as_a_login(
    broker: Guarded, tmp_path: Path
) -> None:
    other = AccessDesk.init(tmp_path / "other", Plan(), ["stays"])
    stranger = Credential.load(other.path_of("stays", AccessRole.PROPLET))
    known = broker.credential("stays")
    assert opens_session(known.address(broker.place))
    for mixed in (
        replace(known, certificate=stranger.certificate, key=stranger.key),
        replace(known, certificate=b"", key=b""),
        replace(known, authority=stranger.authority),
        replace(known, password=stranger.password),
        replace(known, name="manager"),
    ):
        assert not opens_session(mixed.address(broker.place))
