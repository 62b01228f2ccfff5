"""What the coordinator must not forget: rounds, updates, refusals, models, and what it owes.

Times are seconds since the epoch. An update's arrays are kept as one float32 vector in the order
of the base model's tensors, ready to be averaged.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from propeller_fl.rounds import Opening, Receipt, Round
from propeller_fl.store._database import Database
from propeller_fl.store._postgres_address import PostgresAddress
from propeller_fl.store._rounds_pruning import (
    PruneBudget,
    oldest_kept_version,
    prune_models,
    prune_rounds,
    start_digest,
)
from propeller_fl.store._rounds_rows import (
    KeptState,
    KeptUpdate,
    KnownRound,
    NewUpdate,
    Owed,
    StoryLine,
)
from propeller_fl.store._rounds_schema import MIGRATIONS, SCHEMA, VERSION
from propeller_fl.store._rounds_updates import KeptUpdates
from propeller_fl.store._sql import Sql
from propeller_fl.store._update_files import UpdateFileRows
from propeller_fl.wire import (
    Outcome,
    Phase,
    RoundComplete,
    RoundStart,
    Shapes,
    model_version,
)

_quoted: Final = json.encoder.encode_basestring_ascii
_MAX_DETAIL_CHARS: Final = 1024
_ROW_BYTES: Final = 4 * 1024 * 1024  # of an update, when nobody knows
# An update of 10 KB takes three pages of SQLite's usual 4 KiB, each written by two calls and read
# again by a checkpoint; of these three go on one. It takes a third of the time, or half for one of
# 2.6 KB. A commit of one update alone writes more and takes as long, as it waits for the disk.
_PAGE_BYTES: Final = 32 * 1024
_CACHE_BYTES: Final = 16 * 1024 * 1024  # a thousand such are read as soon as the last is written

# To move what the log holds into the file takes as long as it took to write it. That is done while
# nothing waits (``tidy``), unless there is more than this.
_LOG_BYTES: Final = 128 * 1024 * 1024
_TIDY_BYTES: Final = 4 * 1024 * 1024

_REPORTS: Final = 256  # are read at once, in half of the time

MAX_STOPPED: Final = 10_000
"""Ids that were stopped before they were a round's, and never will be."""


class RoundStore:
    """The coordinator's database. One thread at a time; raises :class:`StoreError`.

    ``database`` is a file, an open connection in autocommit mode (``isolation_level=None``), or a
    PostgreSQL server. What is there can only be read until :meth:`take_lead`. ``create``: make the
    tables on a server if there are none.
    """

    def __init__(
        self, database: Path | sqlite3.Connection | PostgresAddress, *, create: bool = True
    ) -> None:
        self._db = _open(database, create)
        self.files = UpdateFileRows(self._db)
        self._untidy_bytes = 0
        self._stopped: int | None = None  # ids that were stopped before they were a round's

    def take_lead(self, holder: str, files_id: str = "") -> bool:
        """Become the only one who writes here, if nobody is; ``holder`` tells others who it is.
        ``files_id`` is that of :meth:`UpdateFiles.identity`, if it keeps files. Raises
        :class:`ConfigError` where those who led before kept others.

        A file is its process's alone, which sees to that by a lock of its own: there it is true.
        A leader without its connection is none any more, and hears :class:`LostLeadError`.
        """
        return self._db.take_lead(holder, files_id)

    def last_leader(self) -> tuple[str, float] | None:
        """Who led last, or leads, on a server, and since when."""
        return self._db.last_leader()

    def close(self) -> None:
        """Nothing may be called afterwards."""
        self._db.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, durable when it ends."""
        return self._db.transaction()

    def tidy(self) -> None:
        """Where much was written, do now, while there is time, what a commit would do one day."""
        if self._untidy_bytes >= _TIDY_BYTES:
            self._db.tidy()
            self._untidy_bytes = 0

    # --- rounds

    def open_round(self, opening: Opening) -> None:
        """Add a round; its id must be new."""
        self._db.execute(
            "INSERT INTO rounds"
            " (round_id, start, base_shapes, base_sha256, in_parts, opened_at_s, phase, detail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, '')",
            opening.start.round_id,
            opening.start.encode().decode(),
            json.dumps(dict(opening.base_shapes)),
            opening.base_sha256,
            int(opening.in_parts),
            opening.opened_at_s,
            Phase.OPEN.value,
        )

    def save_phase(self, round_: Round) -> None:
        """Write where the round stands."""
        self._db.execute(
            "UPDATE rounds SET phase = ?, outcome = ?, detail = ? WHERE round_id = ?",
            round_.phase.value,
            round_.outcome and round_.outcome.value,
            round_.detail,
            round_.opening.start.round_id,
        )

    def save_completion(self, complete: RoundComplete) -> None:
        """Write how the round ended; of all rounds it is the last to have done so."""
        self._db.execute(
            "UPDATE rounds SET complete = ?,"
            " ended_no = (SELECT coalesce(max(ended_no), 0) + 1 FROM rounds) WHERE round_id = ?",
            complete.encode().decode(),
            complete.round_id,
        )

    def load_round(self, round_id: str) -> Round | None:
        """The round with all that counted in it, or ``None``."""
        row = self._db.execute(
            "SELECT start, base_shapes, base_sha256, in_parts, opened_at_s, phase, outcome, detail"
            " FROM kept_rounds WHERE round_id = ?",
            round_id,
        ).fetchone()
        if row is None:
            return None
        start, base_shapes, base_sha256, in_parts, opened_at_s, phase, outcome, detail = row
        accepted = self._db.rows(
            "SELECT proplet_id, sha256, num_samples, size_bytes FROM updates WHERE round_id = ?"
            " ORDER BY received_at_s, proplet_id",
            round_id,
        )
        refused = self._db.rows(
            "SELECT reason, count(*) FROM refusals WHERE round_id = ? GROUP BY reason", round_id
        )
        shapes: Shapes = {name: tuple(shape) for name, shape in json.loads(base_shapes).items()}
        return Round(
            Opening(
                RoundStart.decode(start.encode()), opened_at_s, shapes, base_sha256, bool(in_parts)
            ),
            phase=Phase(phase),
            accepted={
                str(proplet): Receipt(str(sha256), cast(int, samples), cast(int, size_bytes))
                for proplet, sha256, samples, size_bytes in accepted
            },
            refused={str(reason): cast(int, count) for reason, count in refused},
            offered=self.files.offered(round_id) if in_parts else {},
            outcome=Outcome(outcome) if outcome else None,
            detail=detail,
        )

    def known_round(self, round_id: str) -> KnownRound | None:
        """The round that has this id, or had it; ``None`` for an id that is free."""
        row = self._db.execute(
            "SELECT start, phase FROM kept_rounds WHERE round_id = ?", round_id
        ).fetchone()
        if row is not None:
            return KnownRound(start_digest(row[0]), Phase(row[1]), pruned=False)
        row = self._db.execute(
            "SELECT start_sha256, phase FROM pruned_rounds WHERE round_id = ?", round_id
        ).fetchone()
        return KnownRound(row[0], Phase(row[1]), pruned=True) if row else None

    def remember_stopped(self, round_id: str) -> bool:
        """No round may ever be opened under this id, which must be free: it was stopped before.

        :meth:`known_round` then has it as one that was refused and that nothing else is known of.
        At most 10,000 are remembered, so that nobody fills the disk with them; past that it
        returns False.
        """
        if self._stopped is None:
            row: Any = self._db.execute(
                "SELECT count(*) FROM pruned_rounds WHERE phase = ?", Phase.REFUSED.value
            ).fetchone()
            self._stopped = cast(int, row[0])
        if self._stopped >= MAX_STOPPED:
            return False
        self._stopped += 1  # one too many after a transaction that failed, which is no matter
        self._db.execute(
            "INSERT INTO pruned_rounds VALUES (?, '', ?)", round_id, Phase.REFUSED.value
        )
        return True

    def load_open_rounds(self) -> list[Round]:
        """Every round that has not ended, oldest first."""
        rows = self._db.execute(
            "SELECT round_id FROM rounds WHERE phase IN (?, ?) ORDER BY opened_at_s",
            Phase.OPEN.value,
            Phase.AGGREGATING.value,
        ).fetchall()
        rounds = (self.load_round(round_id) for (round_id,) in rows)
        return [round_ for round_ in rounds if round_ is not None]

    def completion(self, round_id: str) -> RoundComplete | None:
        """How a round ended, or ``None`` while it has not."""
        row = self._db.execute(
            "SELECT complete FROM kept_rounds WHERE round_id = ?", round_id
        ).fetchone()
        return RoundComplete.decode(row[0].encode()) if row and row[0] else None

    def newest_ended(self, limit: int) -> list[str]:
        """The rounds that ended last, at most ``limit``, the oldest of them first."""
        rows = self._db.execute(
            "SELECT round_id FROM kept_rounds WHERE ended_no IS NOT NULL"
            " ORDER BY ended_no DESC LIMIT ?",
            limit,
        ).fetchall()
        return [round_id for (round_id,) in reversed(rows)]

    def list_rounds(self, limit: int) -> list[tuple[Round, RoundComplete | None]]:
        """The newest rounds first, at most ``limit``."""
        rows = self._db.execute(
            "SELECT round_id FROM kept_rounds ORDER BY opened_at_s DESC LIMIT ?", limit
        ).fetchall()
        found = ((self.load_round(round_id), self.completion(round_id)) for (round_id,) in rows)
        return [(round_, complete) for round_, complete in found if round_ is not None]

    def story(self, round_id: str) -> list[StoryLine]:
        """What happened in a round, in order of time."""
        lines = [
            StoryLine(cast(float, at_s), "accepted", str(proplet), f"{samples} samples")
            for at_s, proplet, samples in self._db.rows(
                "SELECT received_at_s, proplet_id, num_samples FROM updates WHERE round_id = ?",
                round_id,
            )
        ]
        lines += [
            StoryLine(cast(float, at_s), "refused", str(proplet), f"{reason}: {detail}")
            for at_s, proplet, reason, detail in self._db.rows(
                "SELECT at_s, proplet_id, reason, detail FROM refusals WHERE round_id = ?",
                round_id,
            )
        ]
        return sorted(lines, key=lambda line: line.at_s)

    # --- updates

    def keep_updates(self, updates: Iterable[NewUpdate], at_s: float) -> None:
        """Add accepted updates. Many at once cost half of what each costs by itself."""
        rows = [
            (
                facts.round_id,
                facts.proplet_id,
                facts.sha256,
                facts.num_samples,
                facts.size_bytes,
                _as_json(metrics),
                np.ascontiguousarray(vector, "<f4").data,
                at_s,
            )
            for facts, metrics, vector in updates
        ]
        self._db.execute_each("INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._untidy_bytes += sum([vector.nbytes for *_, vector, _ in rows])

    def updates(self, round_id: str) -> Iterator[KeptUpdate]:
        """The accepted updates of a round by proplet id, one at a time in memory."""
        for proplet_id, samples, metrics, vector in self._db.large_rows(
            "SELECT proplet_id, num_samples, metrics, vector FROM updates WHERE round_id = ?"
            " ORDER BY proplet_id",
            round_id,
            row_bytes=_ROW_BYTES,
        ):
            yield KeptUpdate(
                str(proplet_id),
                cast(int, samples),
                json.loads(str(metrics)),
                np.frombuffer(cast(bytes, vector), "<f4"),
            )

    def kept_updates(self, round_id: str, size: int) -> KeptUpdates:
        """The accepted updates of a round as a strategy reads them; each is of ``size`` numbers."""
        return KeptUpdates(self._db, round_id, size)

    def reports(self, round_id: str) -> Iterator[tuple[Mapping[str, float], int]]:
        """Metrics and number of samples of the accepted updates, by proplet id."""
        rows = self._db.rows(
            "SELECT metrics, num_samples FROM updates WHERE round_id = ? ORDER BY proplet_id",
            round_id,
        )
        while some := list(islice(rows, _REPORTS)):
            texts = ",".join([str(metrics) for metrics, _ in some])
            for metrics, (_, samples) in zip(json.loads(f"[{texts}]"), some, strict=True):
                yield metrics, cast(int, samples)

    def record_refusal(
        self, round_id: str, proplet_id: str, reason: str, detail: str, at_s: float
    ) -> None:
        """Add a refused update to the round's record.

        ``detail`` may hold what a sender wrote: it is cut short, and what is not Unicode (a lone
        surrogate, which JSON can spell) is kept as its escape.
        """
        self._db.execute(
            "INSERT INTO refusals (round_id, proplet_id, reason, detail, at_s)"
            " VALUES (?, ?, ?, ?, ?)",
            round_id,
            proplet_id,
            reason,
            detail[:_MAX_DETAIL_CHARS].encode(errors="backslashreplace").decode(),
            at_s,
        )

    # --- models

    def put_model(self, uri: str, body: bytes, round_id: str | None) -> str:
        """Keep a model's document under its topic; returns its SHA-256.

        A model that a round of ours made is never replaced by one from elsewhere.
        """
        sha256 = hashlib.sha256(body).hexdigest()
        self._db.execute(
            "INSERT INTO models VALUES (?, ?, ?, ?, ?) ON CONFLICT (uri) DO UPDATE"
            " SET sha256 = excluded.sha256, body = excluded.body WHERE models.round_id IS NULL",
            uri,
            model_version(uri),
            sha256,
            body,
            round_id,
        )
        return sha256

    def model(self, uri: str) -> bytes | None:
        """The document kept under this topic, or ``None``."""
        row = self._db.execute("SELECT body FROM models WHERE uri = ?", uri).fetchone()
        return cast(bytes, row[0]) if row else None

    def next_version(self) -> int:
        """Above the highest ever seen, and never 0: people begin with that one, and it may not have
        come here yet."""
        return max(self.latest_version(), 0) + 1

    def latest_version(self) -> int:
        """The highest version ever seen, or -1."""
        row: Any = self._db.execute("SELECT max(version) FROM models").fetchone()
        return -1 if row[0] is None else cast(int, row[0])

    # --- what strategies remember

    def put_strategy_state(self, uri: str, strategy_sha256: str, state: KeptState) -> None:
        """Keep it with the new model ``uri``, which must be there when the transaction ends.

        ``strategy_sha256`` names the strategy and its arguments.
        """
        self._db.execute(
            "INSERT INTO strategy_states VALUES (?, ?, ?)",
            uri,
            strategy_sha256,
            json.dumps(dict(state.numbers)),
        )
        for name, array in state.arrays.items():
            self._db.execute(
                'INSERT INTO strategy_arrays (uri, name, "array") VALUES (?, ?, ?)',
                uri,
                name,
                array.astype("<f8", copy=False).tobytes(),
            )

    def strategy_state(self, uri: str, strategy_sha256: str) -> KeptState | None:
        """What this strategy remembers with model ``uri``, if that is the one that made it."""
        row = self._db.execute(
            "SELECT numbers FROM strategy_states WHERE uri = ? AND strategy_sha256 = ?",
            uri,
            strategy_sha256,
        ).fetchone()
        if row is None:
            return None
        arrays = self._db.rows('SELECT name, "array" FROM strategy_arrays WHERE uri = ?', uri)
        return KeptState(
            {str(name): np.frombuffer(cast(bytes, array), "<f8") for name, array in arrays},
            json.loads(row[0]),
        )

    # --- what goes

    def prune_rounds(self, keep: int, budget: PruneBudget) -> list[str]:
        """Forget rounds that ended before the newest ``keep``, oldest first, within ``budget``.

        Returns those of which from now on only :meth:`known_round` knows; what is left of their
        record goes in later steps.
        """
        return prune_rounds(self._db, keep, budget)

    def prune_models(self, keep: int, bases: Iterable[str], budget: PruneBudget) -> None:
        """Forget global models older than the newest ``keep`` versions, within ``budget``.

        Not those of ``bases`` (topics), nor those whose round is kept. What a strategy remembers
        with a model goes with it.
        """
        prune_models(self._db, keep, bases, budget)

    def oldest_kept_version(self, keep: int) -> int | None:
        """The oldest of the newest ``keep`` versions; ``None`` while there are no more."""
        return oldest_kept_version(self._db, keep)

    # --- outbox

    def owe(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Promise to publish; part of the transaction that makes the promise true."""
        self._db.execute(
            "INSERT INTO outbox (topic, payload, retain) VALUES (?, ?, ?)",
            topic,
            payload,
            int(retain),
        )

    def owed(self, after: int = 0) -> list[Owed]:
        """What is still to be published, oldest first, with ids above ``after``."""
        rows = self._db.rows(
            "SELECT id, topic, payload, retain FROM outbox WHERE id > ? ORDER BY id", after
        )
        return [
            Owed(cast(int, id_), str(topic), cast(bytes, payload), bool(retain))
            for id_, topic, payload, retain in rows
        ]

    def count_owed(self) -> int:
        """How many messages are still to be published."""
        row: Any = self._db.execute("SELECT count(*) FROM outbox").fetchone()
        return cast(int, row[0])

    def settle(self, owed_ids: Iterable[int]) -> None:
        """The broker has these."""
        listed = [(id_,) for id_ in owed_ids]
        if listed:
            self._db.execute_each("DELETE FROM outbox WHERE id = ?", listed)


def _as_json(metrics: Mapping[str, float]) -> str:
    """As ``json.dumps`` has it, in a third of its time: there is one for each update."""
    pairs = [f"{_quoted(name)}: {float(value)!r}" for name, value in metrics.items()]
    return "{" + ", ".join(pairs) + "}"


def _open(database: Path | sqlite3.Connection | PostgresAddress, create: bool) -> Sql:
    if not isinstance(database, PostgresAddress):
        return Database(
            database,
            SCHEMA,
            VERSION,
            MIGRATIONS,
            page_bytes=_PAGE_BYTES,
            cache_bytes=_CACHE_BYTES,
            log_bytes=_LOG_BYTES,
        )
    from propeller_fl.store._postgres import PostgresDatabase  # an extra, which few have

    return PostgresDatabase(database, SCHEMA, VERSION, MIGRATIONS, create=create)
