"""One thread that serves the sockets and timers of any number of links."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from ..errors import ConfigError, LinkError

try:
    import resource
except ImportError:  # not a POSIX system: there is no such limit to raise
    resource = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_CONNECTORS = 8  # connects under way at once; each is a blocking TCP connect and TLS handshake
_OPENINGS = 32  # sessions that are being opened at once, from TCP to the answers to SUBSCRIBE
_SPARE_FILES = 128  # beside one socket a link: logs, databases, models, children


class SocketHandler(Protocol):
    """What the loop calls when a watched socket is ready."""

    def on_readable(self) -> None: ...

    def on_writable(self) -> None: ...


class Timer:
    """A call that is still to come; ``cancel`` is for any thread, any number of times."""

    __slots__ = ("_fn",)

    def __init__(self, fn: Callable[[], None]) -> None:
        self._fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        self._fn = None

    def fire(self) -> None:
        """For the loop: make the call, once, unless cancelled."""
        fn, self._fn = self._fn, None
        if fn is not None:
            fn()


class LinkLoop:
    """One thread, one selector.

    ``expected_links`` is how many sessions this process will hold: the limit on open files is
    raised to the hard limit, and ConfigError says so at once when even that is too low.
    """

    def __init__(self, *, expected_links: int = 0, name: str = "link-loop") -> None:
        raise_file_limit(expected_links + _SPARE_FILES)
        self._name = name
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._lock = threading.Lock()  # guards the next five
        self._calls: deque[Callable[[], None]] = deque()
        self._owners: dict[object, Callable[[], None]] = {}
        self._woken = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_order = itertools.count()  # equal times fire in the order they were set
        self._connectors = _Connectors(name, _CONNECTORS)
        self._opening: set[object] = set()  # the loop's thread only, as the next
        self._to_open: dict[object, Callable[[], None]] = {}

    def start(self) -> None:
        """Start the thread. Links made, and calls queued, before this are served from now on."""
        with self._lock:
            if self._stopping:
                raise LinkError("this link loop was stopped", hint="make a new one")
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Abort the links that are still open, then end the thread. Not from the loop's thread."""
        if self.in_loop():
            raise RuntimeError("a link loop cannot be stopped from its own thread")
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            thread = self._thread
            self._wake_writer.send(b"\0")
        self._connectors.stop()
        if thread is None:  # never started: the caller's thread stands in for it
            self._thread = threading.current_thread()
            self._shut()
            self._thread = None
            return
        thread.join(timeout_s)
        if thread.is_alive():
            raise LinkError(
                f"thread {self._name} did not end within {timeout_s:g} s",
                hint="a message handler or callback is blocking it",
            )

    def __enter__(self) -> LinkLoop:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    def in_loop(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return threading.current_thread() is self._thread

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Run ``fn`` on the loop's thread, after what was queued before. Any thread may call.

        An exception of ``fn`` is logged and does not end the loop. LinkError once stopped.
        """
        with self._lock:
            if self._stopping and not self.in_loop():
                raise LinkError("the link loop was stopped")
            self._calls.append(fn)
            if not self._woken and not self.in_loop():
                self._woken = True
                self._wake_writer.send(b"\0")  # at most one is under way, so it never blocks

    def call_later(self, delay_s: float, fn: Callable[[], None]) -> Timer:
        """The same in ``delay_s`` seconds, unless cancelled."""
        timer = Timer(fn)
        entry = (time.monotonic() + delay_s, next(self._timer_order), timer)
        if self.in_loop():
            heapq.heappush(self._timers, entry)
        else:
            self.call_soon(lambda: heapq.heappush(self._timers, entry))
        return timer

    # What follows is for the connections in this package.

    def adopt(self, owner: object, abort: Callable[[], None]) -> None:
        """Have ``abort`` called on the loop's thread if the loop stops before ``disown``.

        Any thread. LinkError once stopped.
        """
        with self._lock:
            if self._stopping:
                raise LinkError("the link loop was stopped")
            self._owners[owner] = abort

    def disown(self, owner: object) -> None:
        self._owners.pop(owner, None)

    def run_blocking(
        self, job: Callable[[], object], done: Callable[[Exception | None], None]
    ) -> None:
        """Run ``job`` on a connector thread, then ``done(its exception)`` on the loop's thread."""
        self._connectors.submit(job, lambda error: self._report(done, error))

    def begin_opening(self, owner: object, fn: Callable[[], None]) -> None:
        """Call ``fn``, which opens a session, when it is its turn; the owner says when it has
        ended. A broker that is asked for thousands at once refuses some, or answers none in time.
        On the loop's thread only, as the next."""
        if owner in self._opening or len(self._opening) < _OPENINGS:
            self._opening.add(owner)
            fn()
        else:
            self._to_open[owner] = fn

    def end_opening(self, owner: object) -> None:
        """The session is up or will not be, or is not waited for any longer; again is harmless."""
        self._to_open.pop(owner, None)
        self._opening.discard(owner)
        while self._to_open and len(self._opening) < _OPENINGS:
            after = next(iter(self._to_open))
            self._opening.add(after)
            self.call_soon(self._to_open.pop(after))

    def watch(self, sock: socket.socket, handler: SocketHandler) -> None:
        """Call ``handler.on_readable`` whenever ``sock`` can be read. On the loop's thread only."""
        self._selector.register(sock, selectors.EVENT_READ, handler)

    def watch_write(self, sock: socket.socket, wanted: bool) -> None:
        """Call the handler's ``on_writable`` too, or no longer."""
        key = self._selector.get_key(sock)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        if events != key.events:
            self._selector.modify(sock, events, key.data)

    def unwatch(self, sock: socket.socket) -> None:
        """To be called before ``sock`` is closed."""
        self._selector.unregister(sock)

    def _report(self, done: Callable[[Exception | None], None], error: Exception | None) -> None:
        try:
            self.call_soon(lambda: done(error))
        except LinkError:
            _log.debug("a connect ended after the link loop was stopped")

    def _run(self) -> None:
        while not self._stopping:
            for key, events in self._selector.select(self._patience_s()):
                if key.data is None:
                    self._drain_wakeups()
                    continue
                if events & selectors.EVENT_WRITE:
                    self._guarded(key.data.on_writable)
                if events & selectors.EVENT_READ:
                    self._guarded(key.data.on_readable)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                self._guarded(heapq.heappop(self._timers)[2].fire)
            self._run_calls()
        self._shut()

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):  # calls queued meanwhile wait for the sockets' turn
            self._guarded(self._calls.popleft())

    def _patience_s(self) -> float | None:
        if self._calls:
            return 0.0
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _drain_wakeups(self) -> None:
        self._wake_reader.recv(4096)
        with self._lock:
            self._woken = False

    def _guarded(self, fn: Callable[[], None]) -> None:
        try:
            fn()
        except Exception:
            _log.exception("a callback on the link loop failed")

    def _shut(self) -> None:
        while self._calls or self._owners:  # an abort may queue calls, and a call open a link
            self._run_calls()
            for owner in list(self._owners):
                self._guarded(self._owners.pop(owner))
        self._selector.close()
        with self._lock:  # ``stop`` may still be waking us
            self._wake_reader.close()
            self._wake_writer.close()


class _Connectors:
    """A few threads for what blocks: name look-up, TCP connect, TLS handshake.

    Daemon threads rather than an executor, whose threads the interpreter would wait for at exit.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._jobs: queue.SimpleQueue[
            tuple[Callable[[], object], Callable[[Exception | None], None]] | None
        ] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, job: Callable[[], object], report: Callable[[Exception | None], None]) -> None:
        """Called on the loop's thread only."""
        self._jobs.put((job, report))
        if len(self._threads) < self._size:
            name = f"{self._name}-connector-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End each thread once the jobs submitted so far are done."""
        for _ in range(self._size):
            self._jobs.put(None)

    def _work(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, report = task
            try:
                job()
            except Exception as error:
                report(error)
            else:
                report(None)


def raise_file_limit(needed: int) -> None:
    """Raise the soft limit on open files to the hard one; ConfigError if that is too low."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = soft
    for wanted in (hard, max(soft, needed)):  # some systems refuse their own hard limit
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError) as error:
            _log.debug("the limit on open files cannot be set to %d: %s", wanted, error)
            continue
        limit = wanted
        break
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise ConfigError(
            f"{needed} open files are needed, {limit} are allowed",
            hint="raise the hard limit (ulimit -Hn, or LimitNOFILE= of the service), "
            "or spread the proplets over several processes",
        )
