"""The service's thread, when its connection comes back while it still answers the one before."""

from __future__ import annotations

import contextlib
from pathlib import Path

from propeller_fl.experiments import ExperimentService
from propeller_fl.link import Link, LinkLoop
from propeller_fl.store import ExperimentStore, SavedExperiment
from propeller_fl.wire import Topics
from tests.support.brokers import RunningBroker
from tests.support.wait import wait_until


class Answering(ExperimentStore):
    """Calls ``meanwhile`` when it is first asked what to say to a new connection."""

    asked = 0
    link: Link

    def newest(self, limit: int) -> list[SavedExperiment]:
        self.asked += 1
        if self.asked == 1:
            assert self.link.on_up is not None
            self.link.on_up(True)  # as the link does, from its own thread
        return super().newest(limit)


def test_a_connection_that_comes_while_one_is_answered_is_answered_too(
    nats: RunningBroker, tmp_path: Path
) -> None:
    with LinkLoop() as loop, contextlib.closing(Answering(tmp_path / "experiments.db")) as store:
        store.link = Link(loop, nats.address, "experiments")
        service = ExperimentService(store.link, Topics(), store, liveness_timeout_s=30)
        service.start()
        try:
            wait_until(lambda: store.asked >= 2, 60, "the second connection is answered")
        finally:
            service.stop()
            store.link.close()
        assert service.failure is None
