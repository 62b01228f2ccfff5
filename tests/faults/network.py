"""The network between members and their broker: it can be cut, or swallow all that is said."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from propeller_fl.link import BrokerAddress

_PIECE_BYTES: Final = 65_536
_ANSWER_S: Final = 10.0
_T = TypeVar("_T")


class Network:
    """A way of its own for each member: an address that leads to the broker's.

    In a partition nothing gets through, in neither direction, not even the end of a connection:
    to both sides the other is silent. TCP connects still succeed, as the first hop is this machine;
    what is said over them has to wait. When it is over, all that waits goes on its way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, broker: BrokerAddress) -> None:
        self._loop = loop
        self._broker = broker
        self._ways: dict[str, _Way] = {}

    def way(self, name: str) -> BrokerAddress:
        """How ``name`` reaches the broker."""
        way = self._ways[name] = _Way(self._broker)
        return BrokerAddress("127.0.0.1", self._do(way.open()))

    def cut(self, *names: str) -> None:
        """End the connections of these members, for both sides; new ones are possible at once."""
        self._each(names, _Way.cut)

    def part(self, *names: str) -> None:
        """The partition begins for these members."""
        self._each(names, _Way.part)

    def heal(self, *names: str) -> None:
        """It ends."""
        self._each(names, _Way.heal)

    def close(self) -> None:
        async def close() -> None:
            for way in self._ways.values():
                way.close()
            connections = asyncio.all_tasks() - {asyncio.current_task()}
            if connections:
                await asyncio.wait(connections, timeout=_ANSWER_S / 2)

        self._do(close())

    def _each(self, names: Iterable[str], do: Callable[[_Way], None]) -> None:
        async def each() -> None:
            for name in names:
                do(self._ways[name])

        self._do(each())

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_S)


class _Way:
    """On the event loop's thread."""

    def __init__(self, broker: BrokerAddress) -> None:
        self._broker = broker
        self._whole = asyncio.Event()
        self._whole.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def part(self) -> None:
        self._whole.clear()

    def heal(self) -> None:
        self._whole.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        self.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        await self._whole.wait()
        try:
            there, back = await asyncio.open_connection(self._broker.host, self._broker.port)
        except OSError:
            writer.transport.abort()
        else:
            self._writers.add(back)
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
            self._writers.discard(back)
        self._writers.discard(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                await self._whole.wait()
                writer.write(piece)
                await writer.drain()
        await self._whole.wait()
        writer.close()


@contextmanager
def network(broker: BrokerAddress) -> Iterator[Network]:
    """Between any members and ``broker``."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="network", daemon=True)
    thread.start()
    network = Network(loop, broker)
    try:
        yield network
    finally:
        network.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_ANSWER_S)
        loop.close()
