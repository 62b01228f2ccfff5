"""The firmware core's targets: programs with libFuzzer, AddressSanitizer and UBSan in them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from propeller_fl.firmware._device import blob
from propeller_fl.wire import FlSpec, TaskStart, image_uri
from tests.firmware.toolchain import (
    FIXTURES,
    LIB,
    WARNINGS,
    Compiler,
    core_sources,
    include_flags,
)

_SHELL: Final = LIB.parent / "tests" / "fuzz"
"""What of the Zephyr shell reads bytes from outside, with as much of Zephyr as it needs."""

_PROBE: Final = """
#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)data;
    (void)size;
    return 0;
}
"""


_COST: Final = {"core-ed25519": 100}
"""An input of these takes as long as so many of another target's, and they get as many fewer."""


@dataclass(frozen=True, slots=True)
class CoreProgram:
    """A built target."""

    name: str
    path: Path

    @property
    def cost(self) -> int:
        """How many times longer an input takes than another target's."""
        return _COST.get(self.name, 1)

    def make_seeds(self) -> list[bytes]:
        """Inputs to begin with: what such bytes look like when nothing is wrong with them."""
        return list(_SEEDS.get(self.name, tuple)())


def core_sources_by_name() -> dict[str, Path]:
    """The targets' sources: ``core-json`` is firmware/lib/json/fuzz/fuzz_json.c."""
    sources = [*LIB.glob("*/fuzz/fuzz_*.c"), *_SHELL.glob("fuzz_*.c")]
    return {f"core-{path.stem.removeprefix('fuzz_').replace('_', '-')}": path for path in sources}


def find_fuzzer(scratch: Path) -> tuple[Compiler | None, str]:
    """Clang with libFuzzer; or None and what is missing."""
    clang = shutil.which("clang")
    if clang is None:
        return None, "clang is not installed: apt install clang"
    flags = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
    compiler = Compiler((clang,), ("-O1", "-g", *WARNINGS, *flags))
    probe = scratch / "probe.c"
    probe.write_text(_PROBE)
    try:
        compiler.build(scratch / "probe", [probe])
    except AssertionError:
        return None, "clang has no libFuzzer here: install its compiler runtime"
    return compiler, ""


def build_core(compiler: Compiler, folder: Path, names: Iterable[str]) -> list[CoreProgram]:
    """Build these targets, and the core for them, in ``folder``."""
    objects = folder / "core"
    objects.mkdir(parents=True, exist_ok=True)
    compiler.compile(objects, core_sources(), include_flags())
    known = core_sources_by_name()
    programs = []
    for name in names:
        path = folder / name
        flags = [*include_flags(), f"-I{_SHELL}", f"-I{LIB.parent / 'src'}"]
        compiler.build(path, [known[name], *sorted(objects.glob("*.o"))], flags)
        programs.append(CoreProgram(name, path))
    return programs


def _messages() -> Iterator[tuple[str, bytes]]:
    for path in sorted(FIXTURES.glob("*/*.json")):
        yield path.stem.split("-")[0], path.read_bytes()


def _message_seeds() -> Iterator[bytes]:
    """Two bytes choose a decoder and the size of a piece."""
    decoders = ("task_start", "task_stop", "update_ack", "round_complete")
    for message, payload in _messages():
        if message in decoders:
            yield bytes((decoders.index(message), 7)) + payload


def _inbox_seeds() -> Iterator[bytes]:
    """A message each, and a whole task: itself, its model, its image."""
    for message, payload in _messages():
        if message in _INBOX_TOPICS:
            yield _inbox_message(_INBOX_TOPICS[message], payload)
    image = b"\0asm\x01\0\0\0" + bytes(24)
    digest = hashlib.sha256(image).hexdigest()
    env = {"ROUND_ID": "r-1", "MODEL_URI": "fl/models/global_model_v0"}
    task = TaskStart("t-1", "", "mcu-1", image_uri(digest), env).encode()
    yield b"".join(
        (
            _inbox_message("control/manager/start/mcu-1", task),
            _inbox_message(f"fl/images/{digest}", image),
            _inbox_message("fl/models/global_model_v0", b'{"w":[1,2],"b":3}'),
            _inbox_message("fl/rounds/r-1/complete", b'{"round_id":"r-1"}'),
        )
    )
    model, other = b'{"w":[1,2],"b":3}' + bytes(15), b'{"w":[1,2],"b":4}'
    spec = FlSpec("r-1", env["MODEL_URI"], hashlib.sha256(model).hexdigest(), deadline=1.5)
    yield b"".join(
        (
            _inbox_message(
                "control/manager/start/mcu-1",
                TaskStart("t-1", "", "mcu-1", image_uri(digest), env, fl=spec).encode(),
            ),
            _inbox_message(f"fl/images/{digest}", image),
            _inbox_message("fl/models/global_model_v0", other),
            _inbox_message("fl/models/global_model_v0", model),
        )
    )
    chunk = b'{"app_name":"app","chunk_idx":%d,"total_chunks":2,"data":"AGFzbQEA"}'
    yield b"".join(
        (
            _inbox_message(
                "control/manager/start", b'{"id":"t-2","proplet_id":"","image_url":"app"}'
            ),
            _inbox_message("registry/server", chunk % 0),
            _inbox_message("registry/server", chunk % 1),
        )
    )


def _inbox_message(topic: str, payload: bytes) -> bytes:
    """Three bytes: the topic's size, the payload's in 16s, and that of a piece."""
    payload += b" " * (-len(payload) % 16)
    return bytes((len(topic), min(len(payload) // 16, 255), 30)) + topic.encode() + payload


def _topic_seeds() -> Iterator[bytes]:
    for prefix in (b"\0", b"\1m/t/"):
        for topic in (*_INBOX_TOPICS.values(), *_OTHER_TOPICS):
            yield prefix + topic.encode()


def _blob_seeds() -> Iterator[bytes]:
    for kind in ("conf", "data"):
        yield blob(kind, b"proplet_id=mcu-1\n" * 5)


def _config_seeds() -> Iterator[bytes]:
    yield (
        b"# this board\nproplet_id=mcu-1\r\nnamespace=default\ntopic_prefix=m/t/c/x\n\n"
        b"broker_host=192.168.1.10\nbroker_port=1883\nbroker_user=u\nbroker_password=p=q\n"
        b"tls_ca=AGFzbQEA\ntls_key=AA==\n"
    )


def _json_seeds() -> Iterator[bytes]:
    for _, payload in _messages():
        yield b"\7" + payload


def _ed25519_seeds() -> Iterator[bytes]:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    for message in (b"", b"a message"):
        yield key.public_key().public_bytes_raw() + key.sign(message) + message


_INBOX_TOPICS: Final = {
    "task_start": "control/manager/start/mcu-1",
    "task_stop": "control/manager/stop/mcu-1",
    "update_ack": "fl/rounds/r-1/acks/mcu-1",
    "round_complete": "fl/rounds/r-1/complete",
}
_OTHER_TOPICS: Final = (
    "control/proplet/create",
    "control/proplet/alive",
    "control/proplet/results",
    "control/manager/start",
    "control/manager/stop",
    "fl/rounds/r-1/updates/mcu-1",
    "fl/images/" + "0123456789abcdef" * 4,
    "fl/models/global_model_v0",
    "registry/proplet",
    "registry/server",
)
_SEEDS: Final[Mapping[str, Callable[[], Iterator[bytes]]]] = {
    "core-blob": _blob_seeds,
    "core-config": _config_seeds,
    "core-ed25519": _ed25519_seeds,
    "core-inbox": _inbox_seeds,
    "core-json": _json_seeds,
    "core-message": _message_seeds,
    "core-topic": _topic_seeds,
}
