"""One firmware proplet as a process of this machine: a native_sim program, or an emulated board."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import logging
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from propeller_fl.errors import ConfigError, RequestError
from propeller_fl.firmware._boards import BoardKind, QemuMachine
from propeller_fl.firmware._build import FirmwareImage
from propeller_fl.link import BrokerAddress
from propeller_fl.wire import check_id

_log = logging.getLogger(__name__)

_QEMU_HOST: Final = "10.0.2.2"  # this machine, as an emulated one's user network sees it
_STOP_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class DeviceSetup:
    """Who a firmware proplet is, where its broker is, and what it trains on.

    ``data``: the file its module reads as ``/fl/data``; None: there is none. ``more``: keys of its
    configuration with their values, over what the rest says.
    """

    proplet_id: str
    broker: BrokerAddress
    data: Path | None = None
    topic_prefix: str = ""
    more: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_id(self.proplet_id, "proplet_id")

    def settings(self, host: str = "") -> dict[str, str]:
        """The firmware's configuration keys; ``host``: the broker's, as the device sees it."""
        broker = self.broker
        settings = {
            "proplet_id": self.proplet_id,
            "broker_host": host or broker.host,
            "broker_port": str(broker.port),
        }
        if self.topic_prefix:
            settings["topic_prefix"] = self.topic_prefix
        if broker.username:
            settings["broker_user"] = broker.username
        if broker.password:
            settings["broker_password"] = broker.password
        if broker.tls is not None:
            files = {
                "tls_ca": broker.tls.ca_file,
                "tls_certificate": broker.tls.cert_file,
                "tls_key": broker.tls.key_file,
            }
            settings.update((key, _pem_body(path)) for key, path in files.items() if path)
        return {**settings, **self.more}


class FirmwareDevice:
    """A firmware proplet that is started and stopped like any process.

    ``directory`` takes its console log, configuration and simulated flash; they stay when it
    stops, as a board's would. Start it from a thread that lives as long as the device should:
    where ``setpriv`` is installed, the kernel ends the device with that thread.
    Use as a context manager, or call :meth:`start` and :meth:`stop`.
    """

    def __init__(self, image: FirmwareImage, setup: DeviceSetup, directory: Path) -> None:
        if image.board.kind is BoardKind.WEST:
            raise ConfigError(
                f"{image.board.target} is a real board, not a program of this machine",
                hint="flash it with west, and give it its settings over its shell",
            )
        self.setup = setup
        self._image = image
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """Its console; each start appends."""
        return self._directory / f"{self.setup.proplet_id}.log"

    @property
    def status(self) -> int | None:
        """How its process ended; None while it runs, and before it was started."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Switch it on. ``RequestError`` when it runs already or cannot be run at all."""
        if self.running:
            raise RequestError(f"{self.setup.proplet_id} runs already")
        self._directory.mkdir(parents=True, exist_ok=True)
        command = self._command()
        setpriv = shutil.which("setpriv")
        if setpriv is not None:
            command = [setpriv, "--pdeathsig", "KILL", "--", *command]
        with self.log_path.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a Ctrl-C is for us, who will stop it in order
                )
            except OSError as error:
                raise RequestError(f"{command[0]} cannot be run: {error}") from error
        _log.info(
            "firmware device started",
            extra={"proplet_id": self.setup.proplet_id, "log": str(self.log_path)},
        )

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """End it, by force after ``timeout_s``. When it does not run, this does nothing."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Take its power away: SIGKILL, and wait until it has gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> FirmwareDevice:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        machine = self._image.board.qemu
        return self._native_command() if machine is None else self._qemu_command(machine)

    def _native_command(self) -> list[str]:
        config = self._file("conf", settings_text(self.setup.settings()))
        command = [str(self._image.program), f"--fl-config={config}"]
        if self.setup.data is not None:
            command.append(f"--fl-data={self.setup.data.resolve()}")
        return command

    def _qemu_command(self, machine: QemuMachine) -> list[str]:
        host = _QEMU_HOST if _is_loopback(self.setup.broker.host) else ""
        config = self._file("conf.blob", blob("conf", settings_text(self.setup.settings(host))))
        loaded = [(config, machine.config_address)]
        if self.setup.data is not None:
            try:
                data = self.setup.data.read_bytes()
            except OSError as error:
                raise RequestError(f"data of {self.setup.proplet_id}: {error}") from error
            loaded.append((self._file("data.blob", blob("data", data)), machine.data_address))
        command = [machine.program, "-M", machine.machine, "-kernel", str(self._image.program)]
        command += ["-display", "none", "-monitor", "none", "-serial", "stdio"]
        command += ["-nic", f"user,model={machine.nic},mac={mac_address(self.setup.proplet_id)}"]
        for path, address in loaded:
            command += ["-device", f"loader,file={path},addr={address:#x},force-raw=on"]
        return command

    def _file(self, suffix: str, content: bytes) -> Path:
        path = (self._directory / f"{self.setup.proplet_id}.{suffix}").resolve()
        path.touch(mode=0o600)  # a password may be in it
        path.write_bytes(content)
        return path


def settings_text(settings: Mapping[str, str]) -> bytes:
    """Configuration as the firmware reads it: a line ``key=value`` each."""
    return "".join(f"{key}={value}\n" for key, value in settings.items()).encode()


def blob(kind: str, payload: bytes) -> bytes:
    """What the firmware finds in memory that a loader has filled; see firmware/src/blob.h.

    ``kind``: "data" or "conf".
    """
    size = len(payload).to_bytes(4, "little")
    return b"FLB1" + kind.encode() + size + hashlib.sha256(payload).digest() + payload


def mac_address(proplet_id: str) -> str:
    """A locally administered hardware address of this proplet's own, the same at every start."""
    digest = hashlib.sha256(proplet_id.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _pem_body(path: Path) -> str:
    """The first object of a PEM file as base64 of its DER, which is what stands between its lines.

    Raises ``ConfigError``.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as PEM: {error}") from error
    begins = [number for number, line in enumerate(lines) if line.startswith("-----BEGIN ")]
    ends = [number for number, line in enumerate(lines) if line.startswith("-----END ")]
    if not begins or not ends or ends[0] < begins[0]:
        raise ConfigError(f"{path} holds no PEM object")
    return "".join(lines[begins[0] + 1 : ends[0]])
