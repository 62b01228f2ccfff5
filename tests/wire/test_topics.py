from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propeller_fl.errors import ConfigError, MessageError
from propeller_fl.wire import Topics, check_id, image_sha256, image_uri, model_uri, model_version

PREFIXES = ["", "m/tenant/c/channel"]
IDS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)


@pytest.mark.parametrize("prefix", PREFIXES)
@given(round_id=IDS, proplet_id=IDS)
def test_what_is_built_is_parsed_back(prefix: str, round_id: str, proplet_id: str) -> None:
    topics = Topics(prefix)
    ids = (round_id, proplet_id)
    assert topics.parse_update(topics.update(*ids)) == ids
    assert topics.parse_ack(topics.ack(*ids)) == ids
    assert topics.parse_update(topics.ack(*ids)) is None
    assert topics.parse_round_stop(topics.round_stop(round_id)) == round_id
    assert topics.parse_round_stop(topics.status(round_id)) is None


@given(st.integers(0, 10**18 - 1))
def test_model_topics_carry_the_version(version: int) -> None:
    assert model_version(model_uri(version)) == version
    assert Topics("a/b").parse_model(f"a/b/fl/models/global_model_v{version}") == version


@pytest.mark.parametrize(
    "uri",
    ["fl/models/global_model_v", "fl/models/global_model_v01", "fl/models/global_model_v-1",
     "fl/models/global_model_v1x", "x/fl/models/global_model_v1", "fl/models/publish"],
)  # fmt: skip
def test_what_is_no_global_model_has_no_version(uri: str) -> None:
    assert model_version(uri) is None


@pytest.mark.parametrize(
    "bad", ["", "a" * 65, "a/b", "a+", "#", "a b", ".", "..", "é", "a\n", "a\x00"]
)
def test_ids_that_could_leave_a_topic_or_a_directory_are_refused(bad: str) -> None:
    with pytest.raises(MessageError) as caught:
        check_id(bad, "round_id")
    assert (caught.value.reason, caught.value.field) == ("bad_id", "round_id")


def test_topics_of_others_are_not_ours() -> None:
    topics = Topics("m/a/c/b")
    assert topics.parse_update("m/other/c/b/fl/rounds/r/updates/p") is None
    assert topics.parse_update("fl/rounds/r/updates/p") is None


def test_an_update_topic_with_a_bad_id_is_refused() -> None:
    with pytest.raises(MessageError):
        Topics().parse_update("fl/rounds/a b/updates/p")


@pytest.mark.parametrize("prefix", ["/a", "a/", "a//b", "a/+", "#", "a b"])
def test_a_bad_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError):
        Topics(prefix)


def test_an_images_topic_carries_its_digest() -> None:
    digest = "0123456789abcdef" * 4
    assert image_sha256(image_uri(digest)) == digest
    assert image_sha256(image_uri(digest.upper())) is None
    assert image_sha256("oci://example/x") is None
