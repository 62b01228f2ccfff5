"""Images from Propeller's registry: asked for by name, heard in chunks, put together in a file.

The chunks are on one topic for all proplets, so that those asked for by another are there to be
taken as well, from whichever on; what is missing after a while is asked for again. At any time one
chunk is in memory, and the rest in a file without a name, which ends with us.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Final

from propeller_fl.errors import ImageError, LinkError, MessageError
from propeller_fl.link import Incoming, Link, LinkLoop
from propeller_fl.proplet._contract import MAX_IMAGE_BYTES
from propeller_fl.wire import ImageChunk, ImageRequest, Topics

_log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = 10.0
"""How long nothing may come before the missing chunks are asked for again."""

GIVE_UP_S: Final = 60.0
"""How long nothing may come before the image cannot be had. Propeller's proplets wait as long."""

Reader = Callable[[bytes | ImageError], None]


class Assembly:
    """One image as far as it has come. No clock, no topics: chunks in, bytes out.

    All chunks but the last must have one size; which one is known from the first that is not the
    last. Raises ``ImageError`` for chunks that cannot be of one image of at most ``max_bytes``;
    the assembly is of no more use then.
    """

    def __init__(self, name: str, max_bytes: int = MAX_IMAGE_BYTES) -> None:
        self._name = name
        self._max_bytes = max_bytes
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (see close)
        self._total = 0
        self._size = 0  # of all chunks but the last; 0: not known
        self._last: bytes | None = None  # until it is known where it belongs
        self._last_size: int | None = None
        self._have: set[int] = set()

    def take(self, chunk: ImageChunk) -> bool:
        """Put a chunk in its place; one that is there already is skipped. True once all are."""
        if self._total not in (0, chunk.total_chunks):
            raise self._bad(f"has {chunk.total_chunks} chunks and had {self._total}")
        self._total = chunk.total_chunks
        size = len(chunk.data)
        if chunk.chunk_idx == self._total - 1:
            if self._last_size is None:
                self._last, self._last_size = chunk.data, size
        else:
            if size == 0 or self._size not in (0, size):
                raise self._bad(f"has chunks of {size} and of {self._size} bytes")
            self._size = size
        if (self._total - 1) * self._size + (self._last_size or 0) > self._max_bytes:
            raise self._bad(f"is larger than {self._max_bytes} bytes")
        if chunk.chunk_idx < self._total - 1 and chunk.chunk_idx not in self._have:
            self._write(chunk.chunk_idx, chunk.data)
        if self._last is not None and (self._size or self._total == 1):
            self._write(self._total - 1, self._last)
            self._last = None
        return len(self._have) == self._total

    def image(self) -> bytes:
        """All of it, once ``take`` has said so."""
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        self._file.close()

    def __str__(self) -> str:
        return f"{len(self._have)} of {self._total or 'any'} chunks"

    def _write(self, index: int, data: bytes) -> None:
        try:
            self._file.seek(index * self._size)
            self._file.write(data)
        except OSError as error:
            raise ImageError(f"image {self._name[:80]!r}: {error.strerror}") from error
        self._have.add(index)

    def _bad(self, what: str) -> ImageError:
        return ImageError(
            f"image {self._name[:80]!r} {what}", hint="is one registry on this topic, and one only?"
        )


@dataclass(slots=True)
class _Wanted:
    readers: dict[str, Reader] = field(default_factory=dict)
    assembly: Assembly | None = None
    heard: int = 0  # chunks
    silent_s: float = 0.0


class RegistryImages:
    """Fetches with ``link`` what anybody here wants. On the link loop's thread only."""

    def __init__(self, link: Link, loop: LinkLoop, topics: Topics) -> None:
        self._link = link
        self._loop = loop
        self._topics = topics
        self._wanted: dict[str, _Wanted] = {}

    def fetch(self, name: str, proplet_id: str, reader: Reader) -> None:
        """Call ``reader`` once, with the image or with why it cannot be had. Raises ``LinkError``
        when the link is closed."""
        wanted = self._wanted.get(name)
        if wanted is None:
            if not self._wanted:
                self._link.subscribe(self._topics.registry_chunks, self._on_chunk)
            wanted = self._wanted[name] = _Wanted()
            self._ask(name)
            self._look_later(name, wanted)
        wanted.readers[proplet_id] = reader

    def forget(self, name: str, proplet_id: str) -> None:
        """Its reader is not called any more. Raises ``LinkError`` when the link is closed."""
        wanted = self._wanted.get(name)
        if wanted is not None:
            wanted.readers.pop(proplet_id, None)
            if not wanted.readers:
                self._end(name)

    def _ask(self, name: str) -> None:
        self._link.publish(self._topics.registry_requests, ImageRequest(name).encode())

    def _look_later(self, name: str, wanted: _Wanted) -> None:
        look = partial(self._look_again, name, wanted, wanted.heard)
        self._loop.call_later(ASK_AGAIN_S, look)

    def _look_again(self, name: str, wanted: _Wanted, heard: int) -> None:
        if self._wanted.get(name) is not wanted:
            return
        wanted.silent_s = 0.0 if wanted.heard > heard else wanted.silent_s + ASK_AGAIN_S
        if wanted.silent_s >= GIVE_UP_S:
            come = str(wanted.assembly) if wanted.assembly else "nothing"
            error = ImageError(
                f"image {name[:80]!r} did not come from the registry: {come} within "
                f"{GIVE_UP_S:g} s of silence",
                hint="is a manager of ours or Propeller's proxy on this broker, with this prefix?",
            )
            self._tell(name, error)
            return
        try:
            if wanted.silent_s:
                self._ask(name)
            self._look_later(name, wanted)
        except LinkError:
            _log.debug("the link was closed before image %s came", name)

    def _on_chunk(self, incoming: Incoming) -> None:
        try:
            chunk = ImageChunk.decode(incoming.payload)
        except MessageError as error:
            _log.warning("chunk on %s ignored: %s", incoming.topic, error)
        else:
            self._take(chunk)
        incoming.ack()

    def _take(self, chunk: ImageChunk) -> None:
        wanted = self._wanted.get(chunk.app_name)
        if wanted is None:
            return
        wanted.heard += 1
        if wanted.assembly is None:
            wanted.assembly = Assembly(chunk.app_name)
        try:
            if not wanted.assembly.take(chunk):
                return
            outcome: bytes | ImageError = wanted.assembly.image()
        except ImageError as error:
            outcome = error
        self._tell(chunk.app_name, outcome)

    def _tell(self, name: str, outcome: bytes | ImageError) -> None:
        readers = self._wanted[name].readers
        self._end(name)
        for reader in list(readers.values()):
            reader(outcome)

    def _end(self, name: str) -> None:
        wanted = self._wanted.pop(name)
        if wanted.assembly is not None:
            wanted.assembly.close()
        if not self._wanted:
            self._link.unsubscribe(self._topics.registry_chunks)
