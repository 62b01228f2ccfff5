"""Scrapes a process as Prometheus does, and reads the answer as its own parser does."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scrape:
    """Every sample by name and labels, and the type of every family."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]
    types: dict[str, str]

    def value(self, name: str, **labels: str) -> float:
        """One sample. Fails where there is none of exactly these labels."""
        found = self.samples.get((name, frozenset(labels.items())))
        assert found is not None, f"no {name} of {labels}"
        return found

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def scrape(address: str) -> Scrape:
    answer = httpx.get(f"{address}/metrics", timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples, types = {}, {}
    for family in text_string_to_metric_families(answer.text):
        types[family.name] = family.type
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, f"{sample.name} is there twice"
            samples[key] = sample.value
    return Scrape(samples, types)
