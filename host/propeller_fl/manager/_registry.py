"""Images for proplets that ask for them by name, as Propeller's do: in chunks, base64, one topic.

Ours need none of this: they take an image whole from ``fl/images/{sha256}``. A task of ours names
that topic as its image; to a proplet of Propeller's it is a name to ask for.

The chunks of one image are for everybody who asked before the last of them went out. Whoever asks
while they are under way may have missed some, and so they are sent once more.
"""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from propeller_fl.errors import ImageError, LinkError, MessageError
from propeller_fl.link import Delivery, Incoming, Link
from propeller_fl.manager._images import Image, ImageLibrary
from propeller_fl.wire import MAX_CHUNKS, ImageChunk, ImageRequest, Topics, image_sha256, image_uri

_log = logging.getLogger(__name__)

_KEPT: Final = 16  # images of rounds that can be asked for by their topic
_QUEUED: Final = 64  # names that wait; more are dropped, and asked for again
_IN_FLIGHT: Final = 4  # chunks the broker has not acknowledged yet
_PATIENCE_S: Final = 30.0


@dataclass(slots=True)
class _Request:
    again: bool = False  # it was asked for while it was being sent


class ImageRegistry:
    """Answers ``registry/proplet`` on ``registry/server``. Make it before the link starts.

    What may be asked for: the topics of images given to :meth:`offer`, what the library maps to an
    image at hand, and whatever a scheme of its leads to; but not paths of this machine, which a
    proplet has no business to name.
    """

    def __init__(
        self, link: Link, topics: Topics, images: ImageLibrary, chunk_bytes: int = 128 * 1024
    ) -> None:
        self._link = link
        self._topics = topics
        self._images = images
        self._chunk_bytes = chunk_bytes
        self._offered: collections.OrderedDict[str, Image] = collections.OrderedDict()
        self._requests: collections.OrderedDict[str, _Request] = collections.OrderedDict()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="manager-registry", daemon=True)
        link.subscribe(topics.registry_requests, self._on_request)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def offer(self, image: Image) -> None:
        """Serve this image under the name of its topic. Any thread."""
        with self._changed:
            self._offered[image_uri(image.sha256)] = image
            self._offered.move_to_end(image_uri(image.sha256))
            if len(self._offered) > _KEPT:
                self._offered.popitem(last=False)

    def _on_request(self, incoming: Incoming) -> None:
        try:
            name = ImageRequest.decode(incoming.payload).app_name
        except MessageError as error:
            _log.warning("message on %s refused: %s", incoming.topic, error)
        else:
            self._enqueue(name)
        incoming.ack()

    def _enqueue(self, name: str) -> None:
        with self._changed:
            known = self._requests.get(name)
            if known is not None:
                known.again = True
            elif len(self._requests) < _QUEUED:
                self._requests[name] = _Request()
                self._changed.notify_all()
            else:
                _log.warning("image %s not sent: %d others wait", name[:80], _QUEUED)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._requests or self._stopped)
                if self._stopped:
                    return
                name, request = next(iter(self._requests.items()))
                request.again = False
            try:
                self._send(name, self._find(name))
            except (ImageError, LinkError, MessageError) as error:
                _log.warning("image %s not sent: %s", name[:80], error)
                request.again = False
            except Exception:  # a source may be somebody else's code
                _log.exception("image %s not sent", name[:80])
                request.again = False
            with self._changed:
                del self._requests[name]
                if request.again:
                    self._requests[name] = _Request()

    def _find(self, name: str) -> Image:
        """Raises ``ImageError``."""
        with self._changed:
            offered = self._offered.get(name)
        if offered is not None:
            return offered
        if image_sha256(name) is not None:
            raise ImageError("no open round of this manager is about it")
        if not self._images.may_serve(name):
            raise ImageError(
                "proplets may not name files of this machine",
                hint=f'let it stand for one: [manager] images = {{ "{name[:60]}" = "/path" }}',
            )
        return self._images.fetch(name)

    def _send(self, name: str, image: Image) -> None:
        """One chunk at a time is put into text, and some wait for the broker."""
        under_way: collections.deque[Delivery] = collections.deque()
        for chunk in chunks_of(name, image.data, self._chunk_bytes):
            if self._stopped:
                return
            if len(under_way) == _IN_FLIGHT:
                under_way.popleft().wait(_PATIENCE_S)
            under_way.append(self._link.publish(self._topics.registry_chunks, chunk.encode()))
        for delivery in under_way:
            delivery.wait(_PATIENCE_S)
        _log.info("image %s sent in chunks of %d bytes", name, self._chunk_bytes)


def chunks_of(name: str, data: bytes, chunk_bytes: int) -> Iterator[ImageChunk]:
    """An image in pieces, as few as there may be."""
    size = max(chunk_bytes, -(-len(data) // MAX_CHUNKS), 1)
    total = max(1, -(-len(data) // size))
    view = memoryview(data)
    for index in range(total):
        yield ImageChunk(name, index, total, bytes(view[index * size : (index + 1) * size]))
