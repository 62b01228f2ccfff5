"""Rounds one after the other, and the verdict: it is as if nothing had happened to anybody."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from propeller_fl.wire import model_uri
from tests.faults.expected import HYPERPARAMS, IMAGE, models
from tests.faults.processes import PROPLETS
from tests.support.peers import Peer
from tests.support.wait import wait_until

FULL = os.environ.get("PROPELLER_FAULTS") == "full"
"""Whether this is `make faults`: every number below is then what the promises name."""

SEED = int(os.environ.get("PROPELLER_FAULTS_SEED", "1"))

_PATIENCE_S = 5.0


class Rounds:
    """The operator's side of rounds in which everybody takes part, each on the model before it."""

    def __init__(
        self,
        directory: Path,
        peer: Peer,
        *,
        proplets: Sequence[str] = PROPLETS,
        hyperparams: Mapping[str, Any] = HYPERPARAMS,
        timeout_s: float = 120.0,
    ) -> None:
        self._directory = directory
        self._peer = peer
        self._proplets = tuple(proplets)
        self._hyperparams = hyperparams
        self._timeout_s = timeout_s
        self._ids: list[str] = []
        peer.subscribe(*(f"fl/rounds/+/{what}" for what in ("status", "launch", "complete")))

    def start(self) -> str:
        """Ask for the next one; returns its id once the broker has that."""
        round_id = f"r-{len(self._ids) + 1:04d}"
        self._ids.append(round_id)
        self._ask()
        return round_id

    def _ask(self) -> None:
        message = {
            "round_id": self._ids[-1],
            "model_uri": model_uri(len(self._ids) - 1),
            "task_wasm_image": IMAGE,
            "participants": self._proplets,
            "hyperparams": self._hyperparams,
            "k_of_n": len(self._proplets),
            "timeout_s": self._timeout_s,
        }
        self._peer.publish("fl/rounds/start", message)

    def _insist(self) -> None:
        """Ask again while nobody answers, as an operator must: a broker can lose what it took."""
        status = f"fl/rounds/{self._ids[-1]}/status"
        asked_at_s = time.monotonic()

        def is_answered() -> bool:
            nonlocal asked_at_s
            if time.monotonic() - asked_at_s > _PATIENCE_S:
                self._ask()
                asked_at_s = time.monotonic()
            return bool(self._peer.heard(status))

        wait_until(is_answered, self._timeout_s, f"there is a {status}")

    def wait_open(self, accepted: int = 0) -> None:
        """Until the coordinator says that the latest round is open, and has so many updates."""
        self._peer.wait_for(
            f"fl/rounds/{self._ids[-1]}/status",
            lambda status: status["phase"] == "open" and status["accepted"] == accepted,
            timeout_s=60,
        )

    def wait_launched(self) -> None:
        """Until the manager says that everybody has a task of the latest round."""
        self._peer.wait_for(
            f"fl/rounds/{self._ids[-1]}/launch",
            lambda report: sorted(report["launched"]) == sorted(self._proplets),
            timeout_s=60,
        )

    @property
    def is_open(self) -> bool:
        """Whether nobody has said yet that the latest round has ended."""
        return not self._peer.heard(f"fl/rounds/{self._ids[-1]}/complete")

    def wait_complete(self) -> None:
        """Until the latest round has ended, well."""
        round_id = self._ids[-1]
        self._insist()
        complete = self._peer.wait_for(
            f"fl/rounds/{round_id}/complete", timeout_s=self._timeout_s + 30
        )
        told = f"seed {SEED}, round {round_id}: {complete}"
        assert complete["status"] == "complete", told
        assert complete["num_updates"] == len(self._proplets), told
        assert complete["model_version"] == len(self._ids), told

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        store = self._directory / "coordinator" / "rounds.db"
        with contextlib.closing(sqlite3.connect(store)) as database:
            return database.execute(sql).fetchall()

    def judge(self, query: Callable[[str], list[tuple[Any, ...]]] | None = None) -> None:
        """Once the last has ended: no update is missing, and every model is, byte for byte and in
        the coordinator's store as on the model server's disk, what it would have been.

        ``query`` asks the store, where that is not the file it is by default."""
        stored = [
            self._directory / "models" / f"global_model_v{version}.json"
            for version in range(1, len(self._ids) + 1)
        ]
        wait_until(stored[-1].exists, 60, "the model server has the last model")
        query = query or self._query
        [(kept,)] = query("SELECT count(*) FROM updates")
        made = query("SELECT body FROM models WHERE round_id IS NOT NULL ORDER BY version")
        assert kept == len(self._ids) * len(self._proplets), "updates in = updates in the aggregate"
        expected = models(self._ids, self._proplets, self._directory, self._hyperparams)
        assert [body for (body,) in made] == expected, f"seed {SEED}"
        assert [path.read_bytes() for path in stored] == expected, f"seed {SEED}"
