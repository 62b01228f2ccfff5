"""What a caller holds until the broker has answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..errors import LinkError

_log = logging.getLogger(__name__)


class Delivery:
    """The broker's answer to one publish (PUBACK), subscribe (SUBACK) or unsubscribe, to come.

    It outlives reconnects: the packet is sent again until the broker has answered it, or the
    link is closed.
    """

    __slots__ = ("_callbacks", "_condition", "_done", "_error", "_what")

    def __init__(self, what: str) -> None:
        self._what = what  # "publish on 'a/b'", for error texts
        self._condition = threading.Condition()
        self._done = False
        self._error: LinkError | None = None
        self._callbacks: list[Callable[[Delivery], None]] = []

    def __repr__(self) -> str:
        state = "pending" if not self._done else self._error or "done"
        return f"<Delivery {self._what}: {state}>"

    @property
    def done(self) -> bool:
        return self._done

    @property
    def error(self) -> LinkError | None:
        """Why it failed; None while it is not done, and when it succeeded."""
        return self._error

    def wait(self, timeout_s: float) -> None:
        """Return once the broker has answered; LinkError when it refused, or after ``timeout_s``.

        A time-out does not take the message back. Never on the loop's thread.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._done, timeout_s):
                raise LinkError(
                    f"{self._what}: no answer from the broker within {timeout_s:g} s",
                    hint="it is sent again after every reconnect; is the broker reachable?",
                )
        if self._error is not None:
            raise self._error

    def add_done_callback(self, fn: Callable[[Delivery], None]) -> None:
        """Call ``fn(self)`` on the loop's thread when done; at once, here, if that is now."""
        with self._condition:
            if not self._done:
                self._callbacks.append(fn)
                return
        fn(self)

    def finish(self, error: LinkError | None) -> None:
        """For the link: set the outcome. The first one stands."""
        with self._condition:
            if self._done:
                return
            self._done = True
            self._error = error
            self._condition.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for fn in callbacks:
            try:
                fn(self)
            except Exception:
                _log.exception("a callback of %s failed", self._what)
