"""Every topic there is, built and parsed in one place.

An id is ``[A-Za-z0-9._-]{1,64}``: it becomes a topic level and a file name, so ``/``, ``+``, ``#``
and spaces never get into one. ``prefix`` is whole levels put before each topic (SuperMQ and
Propeller use ``m/{tenant}/c/{channel}``); it is empty by default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from propeller_fl.errors import ConfigError, MessageError
from propeller_fl.wire._reasons import Reason

SENDER_PROPERTY: Final = "proplet_id"
"""The user property (MQTT 5) of a forwarded update that says whose topic it came on."""

_ID: Final = re.compile(r"(?!\.+\Z)[A-Za-z0-9._-]{1,64}", re.ASCII)  # not dots alone
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MODEL: Final = re.compile(r"fl/models/global_model_v(0|[1-9][0-9]{0,17})", re.ASCII)
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", re.ASCII)


def check_id(value: str, field: str) -> str:
    """Return ``value`` if it is an id; raise :class:`MessageError` naming ``field`` if not."""
    if not _ID.fullmatch(value):
        raise MessageError(
            Reason.BAD_ID,
            f"{field} is {value[:80]!r}, which is not an id",
            field=field,
            hint="1 to 64 of A-Z a-z 0-9 . _ - and not dots alone",
        )
    return value


def is_sha256(value: str) -> bool:
    """Tell whether ``value`` is a SHA-256 digest in lower-case hexadecimal."""
    return _SHA256.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Topics:
    """Builds topics under an optional ``prefix`` and takes them apart again.

    The ``parse_…`` methods return ``None`` for a topic of another kind and raise
    :class:`MessageError` for one of their kind that carries a bad id.
    """

    prefix: str = ""

    def __post_init__(self) -> None:
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(
                f"topic_prefix is {self.prefix!r}",
                hint="levels of letters, digits, . _ - separated by single slashes, "
                "such as m/tenant/c/channel",
            )

    def absolute(self, topic: str) -> str:
        """Put the prefix before ``topic``, which has none (a ``model_uri``, say)."""
        return f"{self.prefix}/{topic}" if self.prefix else topic

    def relative(self, topic: str) -> str | None:
        """Take the prefix off; ``None`` when ``topic`` does not lie under it."""
        if not self.prefix:
            return topic
        head = self.prefix + "/"
        return topic[len(head) :] if topic.startswith(head) else None

    # rounds

    @property
    def round_start(self) -> str:
        return self.absolute("fl/rounds/start")

    def update(self, round_id: str, proplet_id: str) -> str:
        return self.absolute(f"fl/rounds/{round_id}/updates/{proplet_id}")

    @property
    def any_update(self) -> str:
        return self.absolute("fl/rounds/+/updates/+")

    def parse_update(self, topic: str) -> tuple[str, str] | None:
        """``(round_id, proplet_id)`` of an update topic."""
        return self._round_and_proplet(topic, "updates")

    def ack(self, round_id: str, proplet_id: str) -> str:
        return self.absolute(f"fl/rounds/{round_id}/acks/{proplet_id}")

    @property
    def any_ack(self) -> str:
        return self.absolute("fl/rounds/+/acks/+")

    def acks_of(self, proplet_id: str) -> str:
        return self.absolute(f"fl/rounds/+/acks/{proplet_id}")

    def parse_ack(self, topic: str) -> tuple[str, str] | None:
        """``(round_id, proplet_id)`` of an acknowledgement topic."""
        return self._round_and_proplet(topic, "acks")

    def status(self, round_id: str) -> str:
        return self.absolute(f"fl/rounds/{round_id}/status")

    @property
    def any_status(self) -> str:
        return self.absolute("fl/rounds/+/status")

    def complete(self, round_id: str) -> str:
        return self.absolute(f"fl/rounds/{round_id}/complete")

    @property
    def any_complete(self) -> str:
        return self.absolute("fl/rounds/+/complete")

    def launch(self, round_id: str) -> str:
        return self.absolute(f"fl/rounds/{round_id}/launch")

    @property
    def any_launch(self) -> str:
        return self.absolute("fl/rounds/+/launch")

    def round_stop(self, round_id: str) -> str:
        return self.absolute(f"fl/rounds/{round_id}/stop")

    @property
    def any_round_stop(self) -> str:
        return self.absolute("fl/rounds/+/stop")

    def parse_round_stop(self, topic: str) -> str | None:
        """The round whose stop topic this is."""
        return self._round_of(topic, "stop")

    def parse_launch(self, topic: str) -> str | None:
        """The round whose launch topic this is."""
        return self._round_of(topic, "launch")

    @property
    def forwarded_updates(self) -> str:
        return self.absolute("fml/updates")

    # experiments

    @property
    def experiment_start(self) -> str:
        return self.absolute("fl/experiments/start")

    def experiment_command(self, experiment_id: str) -> str:
        return self.absolute(f"fl/experiments/{experiment_id}/command")

    @property
    def any_experiment_command(self) -> str:
        return self.absolute("fl/experiments/+/command")

    def experiment_status(self, experiment_id: str) -> str:
        return self.absolute(f"fl/experiments/{experiment_id}/status")

    @property
    def any_experiment_status(self) -> str:
        return self.absolute("fl/experiments/+/status")

    def parse_experiment_command(self, topic: str) -> str | None:
        """The experiment whose command topic this is."""
        match (self.relative(topic) or "").split("/"):
            case ["fl", "experiments", experiment_id, "command"]:
                return check_id(experiment_id, "experiment_id")
            case _:
                return None

    # models and images

    @property
    def model_publish(self) -> str:
        return self.absolute("fl/models/publish")

    @property
    def any_model(self) -> str:
        return self.absolute("fl/models/+")

    def model(self, version: int) -> str:
        return self.absolute(model_uri(version))

    def parse_model(self, topic: str) -> int | None:
        """The version of a global model's topic."""
        relative = self.relative(topic)
        return None if relative is None else model_version(relative)

    def image(self, sha256: str) -> str:
        return self.absolute(image_uri(sha256))

    # parts of what is too large for one message

    @property
    def parts_wanted(self) -> str:
        return self.absolute("fl/parts/wanted")

    @property
    def any_part(self) -> str:
        return self.absolute("fl/parts/+")

    def part(self, sha256: str) -> str:
        return self.absolute(f"fl/parts/{sha256}")

    # control, as Propeller has it

    @property
    def proplet_create(self) -> str:
        return self.absolute("control/proplet/create")

    @property
    def proplet_alive(self) -> str:
        return self.absolute("control/proplet/alive")

    @property
    def proplet_results(self) -> str:
        return self.absolute("control/proplet/results")

    # the same by proplet, ours: so that a broker's access rules can say who speaks

    def proplet_create_of(self, proplet_id: str) -> str:
        return self.absolute(f"control/proplet/create/{proplet_id}")

    def proplet_alive_of(self, proplet_id: str) -> str:
        return self.absolute(f"control/proplet/alive/{proplet_id}")

    def proplet_results_of(self, proplet_id: str) -> str:
        return self.absolute(f"control/proplet/results/{proplet_id}")

    def parse_speaker(self, topic: str) -> str | None:
        """The proplet whose own create, alive or results topic this is; ``None`` for the topics
        that all share, and any other."""
        match (self.relative(topic) or "").split("/"):
            case ["control", "proplet", "create" | "alive" | "results", proplet_id]:
                return check_id(proplet_id, "proplet_id")
            case _:
                return None

    @property
    def task_start(self) -> str:
        """The start topic that all proplets share."""
        return self.absolute("control/manager/start")

    def task_start_of(self, proplet_id: str) -> str:
        return self.absolute(f"control/manager/start/{proplet_id}")

    @property
    def task_stop(self) -> str:
        """The stop topic that all proplets share."""
        return self.absolute("control/manager/stop")

    def task_stop_of(self, proplet_id: str) -> str:
        return self.absolute(f"control/manager/stop/{proplet_id}")

    @property
    def registry_requests(self) -> str:
        """Where proplets ask for images by name."""
        return self.absolute("registry/proplet")

    @property
    def registry_chunks(self) -> str:
        """Where those come, in pieces."""
        return self.absolute("registry/server")

    def _round_of(self, topic: str, kind: str) -> str | None:
        match (self.relative(topic) or "").split("/"):
            case ["fl", "rounds", round_id, this] if this == kind:
                return check_id(round_id, "round_id")
            case _:
                return None

    def _round_and_proplet(self, topic: str, kind: str) -> tuple[str, str] | None:
        relative = self.relative(topic)
        if relative is None:
            return None
        match relative.split("/"):
            case ["fl", "rounds", round_id, this, proplet_id] if this == kind:
                return check_id(round_id, "round_id"), check_id(proplet_id, "proplet_id")
            case _:
                return None


def model_uri(version: int) -> str:
    """The topic of global model ``version``, without prefix; what ``model_uri`` fields carry."""
    return f"fl/models/global_model_v{version}"


def model_version(uri: str) -> int | None:
    """The version in a ``model_uri``, or ``None`` if it is not a global model's."""
    found = _MODEL.fullmatch(uri)
    return int(found[1]) if found else None


def check_model_uri(value: str, field: str) -> str:
    """Return ``value`` if it is a model's topic, without prefix; raise :class:`MessageError` naming
    ``field`` if not. The name need not be a global model's."""
    folder, _, name = value.rpartition("/")
    if folder != "fl/models" or name == "publish":
        raise MessageError(
            Reason.BAD_FIELD,
            f"{field} is {value[:80]!r}",
            field=field,
            hint="a model's topic, such as fl/models/global_model_v0",
        )
    check_id(name, field)
    return value


def image_uri(sha256: str) -> str:
    """The topic of the Wasm image with this digest, without prefix."""
    return f"fl/images/{sha256}"


def image_sha256(uri: str) -> str | None:
    """The digest in an image's topic (without prefix), or ``None`` if it is something else."""
    head, _, digest = uri.rpartition("/")
    return digest if head == "fl/images" and is_sha256(digest) else None


def part_sha256(uri: str) -> str | None:
    """The digest in a part's topic (without prefix), or ``None`` if it is something else."""
    head, _, digest = uri.rpartition("/")
    return digest if head == "fl/parts" and is_sha256(digest) else None
