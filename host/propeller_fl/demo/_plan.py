"""What the demo will do, and the files it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from propeller_fl import datasets
from propeller_fl.datasets import Dataset
from propeller_fl.errors import ConfigError
from propeller_fl.wire import Format, Scalar


@dataclass(frozen=True, slots=True)
class Partition:
    """How the training samples are shared out: ``iid``, ``dirichlet:ALPHA`` or ``shards:N``."""

    kind: str
    value: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Raises :class:`ConfigError`."""
        kind, _, value = text.partition(":")
        try:
            match kind:
                case "iid" if not value:
                    return cls(kind)
                case "dirichlet" if float(value) > 0:
                    return cls(kind, float(value))
                case "shards" if int(value) > 0:
                    return cls(kind, int(value))
        except ValueError:
            pass
        raise ConfigError(f"partition {text!r}", hint="iid, dirichlet:0.5 or shards:2")

    def share_out(self, dataset: Dataset, parts: int, seed: int) -> list[Dataset]:
        """One data set a proplet."""
        match self.kind:
            case "dirichlet":
                found = datasets.dirichlet(dataset, parts, alpha=self.value, seed=seed)
            case "shards":
                found = datasets.shards(dataset, parts, per_part=int(self.value), seed=seed)
            case _:
                found = datasets.iid(dataset, parts, seed=seed)
        return [dataset.take(indices) for indices in found]


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What to train, with whom and for how long."""

    output: Path
    proplets: int = 10
    rounds: int = 10
    partition: Partition = Partition("iid")
    hidden: int = 32
    epochs: int = 5
    lr: float = 0.5
    batch_size: int = 16
    strategy: str = "fedavg"
    strategy_args: Mapping[str, Scalar] = field(default_factory=dict)
    seed: int = 0
    timeout_s: float = 60.0
    target: float = 0.95
    own_processes: bool = False
    update_format: Format = Format.CBOR
    board: str = ""
    devices: int = 0

    @property
    def proplet_ids(self) -> tuple[str, ...]:
        """The Wasmtime proplets."""
        return tuple(f"proplet-{number}" for number in range(1, self.proplets + 1))

    @property
    def device_ids(self) -> tuple[str, ...]:
        """The firmware proplets."""
        return tuple(f"{self.board}-{number}" for number in range(1, self.devices + 1))

    @property
    def data_dir(self) -> Path:
        """Where each proplet's data lies, ``{proplet_id}.cbor``."""
        return self.output / "data"

    @property
    def initial_model(self) -> str:
        """The model server's ``initial_model``."""
        hidden = f"x{self.hidden}" if self.hidden else ""
        return f"softmax:64{hidden}x10"

    def write_data(self) -> Dataset:
        """Write every proplet's share of the digits; returns the test samples nobody has."""
        train, test = datasets.split(datasets.load("digits"), seed=self.seed)
        names = self.proplet_ids + self.device_ids
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for name, part in zip(
            names, self.partition.share_out(train, len(names), self.seed), strict=True
        ):
            (self.data_dir / f"{name}.cbor").write_bytes(part.encode(Format.CBOR))
        return test
