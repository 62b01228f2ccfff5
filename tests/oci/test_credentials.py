"""Logins as Docker's configuration has them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from propeller_fl.errors import ImageError
from propeller_fl.oci import Login, login_for

HOST = "registry.lan:5000"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def find(directory: Path, config: Any, host: str = HOST) -> Login | None:
    text = config if isinstance(config, str) else json.dumps(config)
    (directory / "config.json").write_text(text)
    path = f"{directory}:/usr/bin:/bin"
    return login_for(host, {"DOCKER_CONFIG": str(directory), "PATH": path})


def helper(directory: Path, script: str) -> None:
    program = directory / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)


def test_no_configuration(tmp_path: Path) -> None:
    assert login_for(HOST, {"DOCKER_CONFIG": str(tmp_path / "none")}) is None


@pytest.mark.parametrize("name", [HOST, f"https://{HOST}", f"https://{HOST}/v1/"])
def test_auths(tmp_path: Path, name: str) -> None:
    config = {"auths": {"other": {}, name: {"auth": encoded("me:a:b")}}}
    assert find(tmp_path, config) == Login("me", "a:b")


def test_auths_of_another_host(tmp_path: Path) -> None:
    config = {"auths": {"registry.lan": {"auth": encoded("me:a")}}}
    assert find(tmp_path, config) is None


def test_identity_token(tmp_path: Path) -> None:
    config = {"auths": {HOST: {"auth": encoded("x:"), "identitytoken": "t"}}}
    assert find(tmp_path, config) == Login(identity_token="t")


@pytest.mark.parametrize(
    "config",
    [
        {"credHelpers": {HOST: "test"}, "auths": {HOST: {"auth": encoded("me:old")}}},
        {"credsStore": "test", "auths": {HOST: {}}},
    ],
)
def test_a_helper_is_asked_for_the_host(tmp_path: Path, config: dict[str, Any]) -> None:
    helper(tmp_path, 'test "$1" = get && printf \'{"Username":"me","Secret":"%s"}\' "$(cat)"')
    assert find(tmp_path, config) == Login("me", HOST)


def test_a_helper_may_have_an_identity_token(tmp_path: Path) -> None:
    helper(tmp_path, 'printf \'{"Username":"<token>","Secret":"t"}\'')
    assert find(tmp_path, {"credsStore": "test"}) == Login(identity_token="t")


def test_a_store_that_has_nothing_is_no_error(tmp_path: Path) -> None:
    helper(tmp_path, "echo credentials not found in native keychain; exit 1")
    assert find(tmp_path, {"credsStore": "test"}) is None


@pytest.mark.parametrize(
    ("config", "script", "says"),
    [
        ("{", "", "no JSON object"),
        ("[]", "", "no JSON object"),
        ({"auths": []}, "", None),
        ({"auths": ["x"]}, "", "auths is no object"),
        ({"auths": {HOST: 7}}, "", "no object"),
        ({"auths": {HOST: {"auth": "?"}}}, "", "not base64 of user:password"),
        ({"auths": {HOST: {"auth": encoded("nobody")}}}, "", "not base64 of user:password"),
        ({"credsStore": "../../bin/sh"}, "", "no name of a credential helper"),
        ({"credsStore": "nowhere"}, "", "docker-credential-nowhere.*not installed"),
        ({"credsStore": "test"}, "echo locked; exit 3", "status 3.*locked"),
        ({"credsStore": "test"}, "echo 7", "no Username and Secret"),
        ({"credsStore": "test"}, 'echo \'{"Username":"a","Secret":7}\'', "no Username and Secret"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, config: Any, script: str, says: str | None) -> None:
    helper(tmp_path, script)
    if says is None:
        assert find(tmp_path, config) is None
        return
    with pytest.raises(ImageError, match=says):
        find(tmp_path, config)
