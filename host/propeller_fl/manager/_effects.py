"""What the launcher wants done. See ``_launch.py`` for when."""

from __future__ import annotations

from dataclasses import dataclass

from propeller_fl.manager._images import Image
from propeller_fl.store._launches import LaunchChange
from propeller_fl.wire import LaunchReport, TaskStop


@dataclass(frozen=True, slots=True)
class FetchImage:
    """Answer with ``image_fetched`` or ``image_failed``. ``sha256`` may be empty: any will do.
    Wait ``after_s`` first."""

    round_id: str
    reference: str
    sha256: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PublishImage:
    """Answer with ``image_published`` once the broker has it, or ``image_refused``."""

    round_id: str
    image: Image


@dataclass(frozen=True, slots=True)
class SendTask:
    """Ask ``task`` for what is to be sent; answer with ``task_sent`` once the broker has it."""

    round_id: str
    proplet_id: str


@dataclass(frozen=True, slots=True)
class SendStop:
    """Tell a proplet that its task is no longer wanted."""

    stop: TaskStop
    own_topic: bool


@dataclass(frozen=True, slots=True)
class ShowReport:
    """``report`` has changed; publish it, not too often."""

    round_id: str


@dataclass(frozen=True, slots=True)
class ShowLastReport:
    """Publish this; nothing follows for its round."""

    report: LaunchReport


Effect = (
    LaunchChange | FetchImage | PublishImage | SendTask | SendStop | ShowReport | ShowLastReport
)
