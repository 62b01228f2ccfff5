"""The states of a task, what can happen to it, and what it wants done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from propeller_fl.proplet._contents import Content
from propeller_fl.proplet._update import Output
from propeller_fl.wire import TaskResult, TaskStart, UpdateAck

# --- states of a task


@dataclass(frozen=True, slots=True)
class Fetching:
    """What the module needs is on its way; None: not there yet.

    ``wrong_sha256`` is the digest of the last model that came and was not the task's, or empty.
    """

    start: TaskStart
    image: bytes | None = field(default=None, repr=False)
    model: bytes | None = field(default=None, repr=False)
    content: Content | None = None
    wrong_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """The module runs, or waits for a worker."""

    start: TaskStart


@dataclass(frozen=True, slots=True)
class Delivering:
    """The update is out ``sends`` times. ``taken``: the broker has the last of them.

    ``wait_s`` is how long the answer to that one is waited for, before jitter.
    """

    start: TaskStart
    output: Output
    sha256: str
    wait_s: float
    sends: int = 1
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """Ended, well or not."""

    result: TaskResult


State = Fetching | Running | Delivering | Done


# --- events


@dataclass(frozen=True, slots=True)
class Given:
    """The manager has sent this task, maybe not for the first time.

    ``now_s`` is the time in seconds since the epoch, or None where the machine does not know it.
    """

    start: TaskStart
    now_s: float | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The manager wants no more of this task.

    ``addressed``: it says so to this proplet, so that a task not known yet is one to come. Brokers
    keep no order between topics.
    """

    task_id: str
    addressed: bool = True


@dataclass(frozen=True, slots=True)
class ImageArrived:
    """``image`` is what was found at ``url``."""

    url: str
    image: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ImageFailed:
    """No registry has given the image of that name."""

    url: str
    error: str


@dataclass(frozen=True, slots=True)
class ModelArrived:
    """``model`` is what was published on ``uri``; ``content`` the file of a large one, for which
    that is the manifest."""

    uri: str
    model: bytes = field(repr=False)
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """What ``model``, which was published on ``uri``, stands for cannot be had whole."""

    uri: str
    model: bytes = field(repr=False)
    error: str


@dataclass(frozen=True, slots=True)
class Ran:
    """The module ended well and wrote ``output``."""

    task_id: str
    output: Output


@dataclass(frozen=True, slots=True)
class Failed:
    """An effect could not be carried out, or not to a good end."""

    task_id: str
    error: str


@dataclass(frozen=True, slots=True)
class Expired:
    """The round of a task is long over by this machine's clock."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The broker has the update. ``jitter`` is a random number from 0 to 1."""

    task_id: str
    jitter: float


@dataclass(frozen=True, slots=True)
class Waited:
    """The wait after sending number ``sends`` is over."""

    task_id: str
    sends: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The coordinator has spoken about an update."""

    ack: UpdateAck


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """The round has ended; ``how`` is its outcome, for people."""

    round_id: str
    how: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """There is a new session with the broker; what was said meanwhile was not heard."""


Event = (
    Given
    | Stopped
    | ImageArrived
    | ImageFailed
    | ModelArrived
    | ModelFailed
    | Ran
    | Failed
    | Expired
    | Taken
    | Waited
    | Answered
    | RoundClosed
    | Reconnected
)


# --- effects, to be carried out in order


@dataclass(frozen=True, slots=True)
class ReadImage:
    """Read a local file; answer with ImageArrived (``url``) or Failed."""

    task_id: str
    url: str
    path: str


@dataclass(frozen=True, slots=True)
class Run:
    """Run the module; answer with Ran or Failed. ``model`` is None for a task without one."""

    start: TaskStart
    image: bytes = field(repr=False)
    model: bytes | Content | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Its outcome is no longer wanted."""

    task_id: str


@dataclass(frozen=True, slots=True)
class EndRun:
    """Stop a daemon; answer with Ran or Failed, as ever."""

    task_id: str


@dataclass(frozen=True, slots=True)
class SendUpdate:
    """Publish; answer with Taken once the broker has it, or Failed if it never can be."""

    task_id: str
    round_id: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer with Waited in ``delay_s`` seconds."""

    task_id: str
    sends: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Expire:
    """Answer with Expired in ``delay_s`` seconds."""

    task_id: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """Publish the result."""

    result: TaskResult


Effect = ReadImage | Run | CancelRun | EndRun | SendUpdate | Wait | Expire | Report


@dataclass(frozen=True, slots=True)
class Want:
    """What the tasks need to hear: an image or a model on the topic that the task names, the image
    that a registry has under that name, or the end of the round with the id ``name``."""

    kind: Literal["image", "model", "round", "registry"]
    name: str
