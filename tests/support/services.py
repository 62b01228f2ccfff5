"""Our services as a user runs them: processes, whose log is read as it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from propeller_fl.link import BrokerAddress

from .wait import wait_until


class Service:
    """``python -m propeller_fl … ARGUMENTS`` with its state in ``directory``.

    ``address`` is the broker's; ``None`` for a command that has its own or needs none. ``inside``
    goes before the command (see ``SmallDisk.inside``). Its log goes through a pipe, so that it is
    there whatever becomes of the disk.
    """

    def __init__(
        self,
        directory: Path,
        address: BrokerAddress | None,
        *arguments: str,
        settings: Sequence[str] = (),
        inside: Sequence[str] = (),
        log_json: bool = False,
    ) -> None:
        broker = ["--broker", f"mqtt://{address.host}:{address.port}"] if address else []
        quick = [f"model_server.models_dir={directory / 'models'}", "model_server.http_port=0"]
        quick.append("dashboard.http_port=0")
        self._command = [
            *inside, sys.executable, "-m", "propeller_fl", "--data-dir", str(directory), *broker,
            *(f"--set={setting}" for setting in (*quick, *settings)),
            *(["--log-json"] if log_json else []), *arguments,
        ]  # fmt: skip
        self.name = " ".join(arguments)
        self._lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def log(self) -> str:
        """All it has said so far, over all its starts."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def forget_log(self) -> None:
        """``log`` begins anew."""
        self._lines.clear()

    def start(self) -> None:
        """Run it, without waiting for anything."""
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        self.wait_for("ready: broker")

    def wait_for(self, text: str, *, count: int = 1, timeout_s: float = 60) -> None:
        """Until the log holds ``text``; fails at once when the process ends without it."""

        def said() -> bool:
            running = self.running
            if not running and self._reader is not None:
                self._reader.join(10)
            found = self.log.count(text) >= count
            assert found or running, f"{self.name} ended without {text!r}:\n{self.log}"
            return found

        wait_until(said, timeout_s, f"{self.name} says {text!r}, not only:\n{self.log[-3000:]}")

    def wait_end(self, timeout_s: float = 60) -> int:
        """Its exit status, once it has ended by itself."""
        assert self._process is not None
        assert self._reader is not None
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end:\n{self.log[-3000:]}") from None
        self._reader.join(10)
        return status

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, by force if it takes its time; harmless when it has ended."""
        if self._process is None:
            return
        if self._process.poll() is None:
            os.kill(self._process.pid, how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        if self._reader is not None:
            self._reader.join(10)

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """All of them, ready; ended afterwards, the last first."""
    try:
        for service in services:
            service.start()
        for service in services:
            service.wait_ready()
        yield
    finally:
        for service in reversed(services):
            service.stop()
