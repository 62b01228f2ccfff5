"""Logins from Docker's configuration, as `docker login`, `podman login` and others leave them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from propeller_fl.errors import ImageError

_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_S: Final = 30.0
_MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Login:
    """User and password for a registry, or an identity token, which its token service changes for
    another one."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def login_for(host: str, environ: Mapping[str, str] | None = None) -> Login | None:
    """What ``config.json`` in ``DOCKER_CONFIG`` (default ``~/.docker``) has for ``host``; None:
    nothing. First ``credHelpers``, then ``credsStore``, then ``auths``. Helpers are run.

    Raises :class:`ImageError` when a login is there and cannot be read.
    """
    environ = os.environ if environ is None else environ
    directory = environ.get("DOCKER_CONFIG")
    path = (Path(directory) if directory else Path.home() / ".docker") / "config.json"
    config = _read(path)
    helper = _object(config, "credHelpers", path).get(host) or config.get("credsStore")
    if helper:
        found = _ask(helper, host, path, environ)
        if found is not None:
            return found
    auths = _object(config, "auths", path)
    for name in (
        host,
        f"https://{host}",
        f"https://{host}/",
        f"https://{host}/v1/",
        f"http://{host}",
    ):
        if name in auths:
            return _login(auths[name], f"{path}: auths of {host}")
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise ImageError(f"logins in {path} cannot be read: {err.strerror}") from err
    try:
        config = json.loads(data)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ImageError(f"logins in {path} cannot be read: it is no JSON object")
    return config


def _object(config: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = config.get(name) or {}
    if not isinstance(value, dict):
        raise ImageError(f"logins in {path} cannot be read: {name} is no object")
    return value


def _login(entry: Any, where: str) -> Login | None:
    """An entry of ``auths``; one without anything says that a helper has it."""
    if not isinstance(entry, dict):
        raise ImageError(f"{where}: no object")
    token, auth = entry.get("identitytoken"), entry.get("auth")
    if isinstance(token, str) and token:
        return Login(identity_token=token)
    if isinstance(auth, str) and auth:
        try:
            text = base64.b64decode(auth, validate=True).decode().rstrip("\0")
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        user, colon, password = text.partition(":")
        if not colon:
            raise ImageError(f"{where}: auth is not base64 of user:password", hint="log in again")
        return Login(user, password)
    name, secret = entry.get("username"), entry.get("password")
    if isinstance(name, str) and isinstance(secret, str):
        return Login(name, secret)
    return None


def _ask(helper: Any, host: str, path: Path, environ: Mapping[str, str]) -> Login | None:
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise ImageError(f"{path}: {str(helper)[:40]!r} is no name of a credential helper")
    name = f"docker-credential-{helper}"
    program = shutil.which(name, path=environ.get("PATH"))
    if program is None:
        raise ImageError(
            f"{name}, which {path} names for {host}, is not installed",
            hint="install it, or take it out and log in again",
        )
    try:
        ended = subprocess.run(
            [program, "get"], input=host.encode(), capture_output=True, timeout=_HELPER_S,
            env=dict(environ), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ImageError(f"{name} did not answer within {_HELPER_S:g} s") from None
    except OSError as err:
        raise ImageError(f"{name} cannot be run: {err.strerror}") from err
    if ended.returncode != 0:
        said = (ended.stdout or ended.stderr).decode(errors="replace").strip()
        if "credentials not found" in said.lower():  # the words of Docker's own helpers
            return None
        raise ImageError(f"{name} failed with status {ended.returncode}", hint=said[:200])
    try:
        answer = json.loads(ended.stdout)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, TypeError, KeyError, RecursionError):
        user = secret = None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise ImageError(f"{name} gave no Username and Secret for {host}")
    return Login(identity_token=secret) if user == "<token>" else Login(user, secret)
