"""What a proplet needs of whoever carries out its tasks."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from propeller_fl.proplet._task_events import Run
from propeller_fl.proplet._update import Output


class RunsTasks(Protocol):
    """Threads that run modules on this machine, or somebody who has others do it. Any thread."""

    @property
    def queued(self) -> int:
        """Runs of rounds that wait to begin."""

    def run(self, proplet_id: str, run: Run) -> Future[Output]:
        """Begin with a task. An error of the future is the task's end, and what it is told to have
        failed with."""

    def stop(self, proplet_id: str, task_id: str) -> None:
        """What comes of this task is no longer wanted."""

    def read(self, path: str) -> Future[bytes]:
        """Read an image from a local file."""

    def close(self) -> None:
        """End what is under way, and wait for it."""
