"""`propeller-fl test http`"""

from __future__ import annotations

import json
import logging
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from propeller_fl.access import AccessRole, Keyring
from propeller_fl.cli._context import Context, fails_clearly, pass_context
from propeller_fl.config import Settings
from propeller_fl.deployment import Deployment, Role
from propeller_fl.errors import PropellerError
from propeller_fl.log import printable
from propeller_fl.wire import Outcome, model_uri

_POLL_S: Final = 0.25
_PATIENCE_S: Final = 60.0  # for services that are just starting, on a busy machine
_MARGIN_S: Final = 30.0  # past the deadline, for aggregation and the way here


class _FailedError(PropellerError):
    """The verdict."""


@click.command()
@click.option("--url", help="Of a running HTTP face; default: one of its own, with all services.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="Holds the token to show; default: the operator's of the deployment or of --credentials.",
)
@click.option("--participants", metavar="ID,ID,…", help="Default: who is alive.")
@click.option("--image", default="", help="The module; default: the HTTP face's.")
@click.option("--timeout-s", default=60.0, show_default=True, help="Deadline of the round.")
@pass_context
@fails_clearly
def http(
    context: Context,
    url: str | None,
    token_file: Path | None,
    participants: str | None,
    image: str,
    timeout_s: float,
) -> None:
    """Run one whole round by HTTP requests alone, and say whether it worked.

    Status 0 when every participant's update is in the new model, 1 if not.
    """
    logging.getLogger("propeller_fl").setLevel(logging.ERROR)
    wanted = participants.split(",") if participants else []

    def run() -> str:
        if url is not None:
            face = _Http(url.rstrip("/"), *_shown(context.settings(), url, token_file))
            return _http_round(face, wanted, image, timeout_s)
        with tempfile.TemporaryDirectory() as directory:
            settings = _isolated(context.settings(), Path(directory))
            with Deployment(settings, Role.ALL | Role.GATEWAY) as deployment:
                face = _Http(deployment.gateway_address)
                return _http_round(face, wanted, image, timeout_s)

    _verdict(run)


def _shown(
    settings: Settings, url: str, token_file: Path | None
) -> tuple[str, ssl.SSLContext | None]:
    """The token, and with whom and as whom TLS is spoken. No token goes out without TLS but one
    that was named."""
    credential = Keyring.of(settings).of_role(AccessRole.OPERATOR)
    if credential is None or not url.startswith("https:"):
        return (token_file.read_text().strip() if token_file else ""), None
    token = token_file.read_text().strip() if token_file else credential.token
    return token, credential.tls.context()


def _verdict(run: Callable[[], str]) -> None:
    try:
        _say(f"round: {run()}")
    except PropellerError as err:
        _say(f"FAILED: {err}")
        sys.exit(1)
    _say("PASSED")


def _isolated(settings: Settings, directory: Path) -> Settings:
    """The same, on free ports and in a directory of its own, with a broker of its own."""
    return replace(
        settings,
        data_dir=directory / "state",
        broker=replace(settings.broker, url="", host="127.0.0.1", port=0),
        model_server=replace(settings.model_server, models_dir=directory / "models", http_port=0),
        coordinator=replace(settings.coordinator, model_grace_s=_PATIENCE_S),
        gateway=replace(
            settings.gateway,
            http_host="127.0.0.1",
            http_port=0,
            token_file=None,
            wait_s=_PATIENCE_S,
        ),
    )


class _Http:
    """JSON there and back. Raises ``_FailedError`` for anything but 2xx."""

    def __init__(self, url: str, token: str = "", tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._tls = tls
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self._tls) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:400]
            raise _FailedError(f"{method} {path}: {error.code} {said}") from None
        except (OSError, ValueError) as error:
            raise _FailedError(f"{method} {self._url}{path}: {error}") from None


def _http_round(http: _Http, participants: list[str], image: str, timeout_s: float) -> str:
    until_s = time.monotonic() + timeout_s + _MARGIN_S
    _say(f"health: {http('GET', '/health')['status']}")
    before = _poll(lambda: http("GET", "/models")["versions"], until_s, "there is no model")
    _say(f"models: versions {before}")
    participants = participants or _poll(lambda: _alive(http), until_s, "no proplet is alive")
    _say(f"proplets: {', '.join(participants)}")
    round_id = f"test-{uuid.uuid4().hex[:12]}"
    wanted = {
        "experiment_id": round_id,
        "round_id": round_id,
        "model_ref": model_uri(max(before)),
        "participants": participants,
        "hyperparams": {"epochs": 5, "lr": 0.1, "batch_size": 16},
        "k_of_n": len(participants),
        "timeout_s": timeout_s,
    }
    http("POST", "/experiments", wanted | ({"task_wasm_image": image} if image else {}))
    _say(f"experiment: {round_id} is configured")

    def ended() -> Any:
        said = http("GET", f"/rounds/{round_id}/complete")
        return said if said["completed"] and "outcome" in said else None

    said = _poll(ended, until_s, f"round {round_id} has not ended")
    if said["outcome"] != Outcome.COMPLETE or said["num_updates"] != len(participants):
        raise _FailedError(
            f"the round ended as {said['outcome']} with {said['num_updates']} of "
            f"{len(participants)} updates: {said.get('detail')}"
        )
    version = said["model_version"]
    model = http("GET", f"/models/{version}")
    _say(f"model: version {version}: {', '.join(name for name in model if name != 'version')}")
    following = http("GET", "/rounds/next")
    if not following["next_round_available"]:
        raise _FailedError("/rounds/next knows of no round that has ended")
    return f"{said['num_updates']} updates made model version {version}"


def _alive(http: _Http) -> list[str]:
    """Once as many are alive as a moment before."""
    before: list[str] = []
    for _ in range(2):
        found = [p["id"] for p in http("GET", "/proplets")["proplets"] if p["alive"]]
        if found == before:
            return found
        before = found
        time.sleep(_POLL_S)
    return []


def _poll(look: Callable[[], Any], until_s: float, otherwise: str) -> Any:
    while not (found := look()):
        if time.monotonic() > until_s:
            raise _FailedError(otherwise)
        time.sleep(_POLL_S)
    return found


def _say(line: str) -> None:
    click.echo(printable(line))
