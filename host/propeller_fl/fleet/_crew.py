"""Thousands of simulated proplets on one loop: their sessions, and what they share.

A session each unless the plan says otherwise. Shared are the process, its loop's thread, one more
session that reads images, models and ends of rounds once for all (as a host of many real proplets
does), and the compiled module.
"""

from __future__ import annotations

import functools
import threading
from typing import Final

from propeller_fl.errors import LinkError
from propeller_fl.fleet._ledger import Ledger
from propeller_fl.fleet._member import Member, Surroundings
from propeller_fl.fleet._plan import FleetPlan, RoundPlan
from propeller_fl.fleet._proplet import Fate
from propeller_fl.fleet._training import Trainer
from propeller_fl.link import BrokerAddress, Link, LinkLimits, LinkLoop
from propeller_fl.proplet import Board
from propeller_fl.wire import RoundComplete, Topics

_KEEPALIVE_S: Final = 240  # a proplet's own heartbeats come sooner
_CONNECT_S: Final = 60.0  # of one session, among thousands that connect at once
_LIMITS: Final = LinkLimits(max_queued=200_000, max_queued_bytes=1 << 30)
_READER: Final = "fleet"
_BEGIN_S: Final = 300.0  # thousands of sessions may have much to say first
_STOP_S: Final = 60.0


class Crew:
    """Connects the proplets of ``plan`` and lets them take part. A context manager.

    Raises :class:`ConfigError` when this process may not open a file for each session.
    """

    def __init__(
        self, plan: FleetPlan, address: BrokerAddress, topics: Topics, trainer: Trainer
    ) -> None:
        self._plan = plan
        self._topics = topics
        self._loop = LinkLoop(expected_links=plan.session_count + 1, name="fleet")
        self._reading = self._link(address, "fleet-board")
        self._board = Board(self._reading, self._loop)
        self.ledger = Ledger()
        around = Surroundings(plan, self._loop, self._board, topics, trainer, self.ledger)
        self._links = [self._link(address, f"fleet-{n}") for n in range(plan.session_count)]
        self._members = [
            Member(around, index, self._links[index % len(self._links)])
            for index in range(plan.proplets)
        ]

    def __enter__(self) -> Crew:
        self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.stop(_STOP_S)

    @property
    def lost(self) -> tuple[int, int]:
        """Updates, and answers, that the profile of losses has taken so far."""
        machines = [member.machine for member in self._members]
        return sum(m.lost_updates for m in machines), sum(m.lost_answers for m in machines)

    def connect(self, timeout_s: float) -> None:
        """Return once the broker has every proplet's introduction. Raises :class:`LinkError`."""
        self._reading.start()
        self._reading.wait_connected(timeout_s)
        for number, link in enumerate(self._links):
            link.on_up = functools.partial(self._came_up, number)
            link.start()
        if not self.ledger.wait_introduced(self._plan.proplets, timeout_s):
            raise LinkError(
                f"{self.ledger.introduced} of {self._plan.proplets} proplets have introduced "
                f"themselves after {timeout_s:g} s",
                hint="see the broker's log; with --sessions proplets share some",
            )

    def begin(self, plan: RoundPlan, round_id: str) -> None:
        """What happens from now on belongs to this round."""
        self.ledger.begin()
        ready = threading.Event()

        def begin() -> None:
            for member in self._members:
                fate = Fate(bool(plan.drops[member.index]), float(plan.latency_s[member.index]))
                member.machine.meet(fate)
            self._board.follow(self._topics.complete(round_id), _READER, self._on_end)
            ready.set()

        self._loop.call_soon(begin)
        if not ready.wait(_BEGIN_S):
            raise LinkError("the fleet's loop does not answer")

    def end(self, round_id: str) -> None:
        """Nothing is expected of this round any more."""
        topic = self._topics.complete(round_id)
        self._loop.call_soon(lambda: self._board.unfollow(topic, _READER))

    def _link(self, address: BrokerAddress, client_id: str) -> Link:
        return Link(
            self._loop,
            address,
            client_id,
            clean_session=True,
            keepalive_s=_KEEPALIVE_S,
            connect_timeout_s=_CONNECT_S,
            limits=_LIMITS,
        )

    def _came_up(self, number: int, session_present: bool) -> None:
        for member in self._members[number :: len(self._links)]:
            member.came_up()

    def _on_end(self, payload: bytes) -> None:
        self.ledger.note_complete(RoundComplete.decode(payload))
