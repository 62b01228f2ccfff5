"""Real services, and disks that stop taking anything at the worst moment."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.brokers import RunningBroker, nats
from tests.support.services import Service
from tests.support.small_disk import NoNamespaces, SmallDisk, small_disk

__all__ = ["disk", "nats"]


class FillableDisk(Protocol):
    """Where a service may keep its state."""

    directory: Path
    error: str  # what the service must name when it is full

    @property
    def inside(self) -> Sequence[str]: ...

    def fill(self, service: Service) -> None: ...

    def free(self, service: Service) -> None: ...


class RealDisk:
    """A tmpfs without a byte left."""

    error = "the disk is full: free some space, nothing was lost"

    def __init__(self, disk: SmallDisk) -> None:
        self._disk = disk
        self.directory = disk.path
        self.inside = disk.inside

    def fill(self, service: Service) -> None:
        self._disk.fill()

    def free(self, service: Service) -> None:
        self._disk.free()


class WriteLimit:
    """No write of the service to any file goes through (EFBIG): how a disk fails that has become
    read-only under an open file, or broken; and what is left where there are no namespaces."""

    inside: Sequence[str] = ()
    error = "did not take"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def fill(self, service: Service) -> None:
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def free(self, service: Service) -> None:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, unlimited)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A few megabytes of its own; skipped, saying so, where the system gives no namespace."""
    try:
        with small_disk(tmp_path / "disk") as made:
            yield made
    except NoNamespaces as err:
        pytest.skip(f"no mount namespace to be had: {err}")


@pytest.fixture(params=["a full tmpfs", "a limit on writes"])
def fillable(request: pytest.FixtureRequest, tmp_path: Path) -> FillableDisk:
    if request.param == "a full tmpfs":
        return RealDisk(request.getfixturevalue("disk"))
    return WriteLimit(tmp_path / "disk")


class Others:
    """The other services of a deployment, on a disk that is sound."""

    def __init__(self, directory: Path, broker: RunningBroker) -> None:
        self.directory = directory
        self._broker = broker

    def __call__(self, *names: str) -> list[Service]:
        return [Service(self.directory, self._broker.address, name) for name in names]


@pytest.fixture
def others(tmp_path: Path, nats: RunningBroker) -> Others:
    return Others(tmp_path / "sound", nats)
