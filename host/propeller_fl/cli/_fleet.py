"""`propeller-fl fleet …`"""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from propeller_fl import fleet
from propeller_fl.cli._context import as_json, fails_clearly, print_json
from propeller_fl.demo import Partition
from propeller_fl.fleet import FleetPlan, FleetResult, FleetRound, Spread

_MIB = 1024 * 1024


@click.group("fleet")
def group() -> None:
    """Try what a fleet of thousands does."""


@group.command()
@click.option("--proplets", default=1_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--nodes", default=1, show_default=True, help="Of the broker; 3 are a cluster.")
@click.option("--sessions", default=0, show_default=True, help="MQTT sessions; 0: one a proplet.")
@click.option("--qos", default=0, show_default=True, help="Of the proplets' subscriptions: 0, 1.")
@click.option("--wasm", default=0.01, show_default=True, help="Share whose module really runs.")
@click.option("--recordings", default=16, show_default=True, help="Real updates the others send.")
@click.option("--latency", default="fixed:0", show_default=True, help="Seconds until an update.")
@click.option("--loss", default=0.0, show_default=True, help="Chance of an update, or answer.")
@click.option("--dropout", default=0.0, show_default=True, help="Share that falls silent a round.")
@click.option("--samples", default="fixed:100", show_default=True, help="Samples of a proplet.")
@click.option("--partition", default="iid", show_default=True, help="iid, dirichlet:A, shards:N.")
@click.option("--k", default=1.0, show_default=True, help="Share of the rest that ends a round.")
@click.option("--epochs", default=1, show_default=True)
@click.option("--lr", default=0.5, show_default=True)
@click.option("--timeout-s", default=120.0, show_default=True, help="Deadline of a round.")
@click.option("--resend-after-s", default=5.0, show_default=True, help="First wait for an answer.")
@click.option("--heartbeat-s", default=60.0, show_default=True, help="Between signs of life.")
@click.option(
    "--output",
    default="fleet-out",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Models, logs, state.",
)
@as_json
@fails_clearly
def simulate(as_json: bool, latency: str, samples: str, partition: str, **values: Any) -> None:
    """Run rounds with thousands of simulated proplets in one process.

    Broker, manager, coordinator and model server are real processes, and every message is a real
    one. A distribution is fixed:V, uniform:LOW:HIGH or lognormal:MEDIAN:SIGMA. Status 0 when every
    round ended with the mean of what was sent.
    """
    plan = FleetPlan(
        latency=Spread.parse(latency, "--latency"),
        samples=Spread.parse(samples, "--samples"),
        partition=Partition.parse(partition),
        **values,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the services end with us
    logging.getLogger("propeller_fl").setLevel(logging.ERROR)
    if as_json:
        result = fleet.simulate(plan)
        print_json({"plan": _described(plan), **dataclasses.asdict(result), "ok": result.ok})
    else:
        console = Console(highlight=False, soft_wrap=True)
        for line in _explained(plan):
            console.print(line)
        result = fleet.simulate(plan, console.print, lambda row: console.print(_line(row)))
        for table in _tables(result):
            console.print(table)
    sys.exit(0 if result.ok else 1)


def _described(plan: FleetPlan) -> dict[str, Any]:
    values = {each.name: getattr(plan, each.name) for each in dataclasses.fields(plan)}
    plain = {name: v if isinstance(v, int | float) else str(v) for name, v in values.items()}
    partition = plan.partition
    plain["partition"] = partition.kind + (f":{partition.value:g}" if partition.value else "")
    return plain | {"wasm_proplets": int(plan.is_wasm.sum())}


def _explained(plan: FleetPlan) -> list[str]:
    """What is real and what is not."""
    real = int(plan.is_wasm.sum())
    sessions = "each with its session" if plan.session_count == plan.proplets else "on shared ones"
    return [
        f"real: broker, manager, coordinator, model server (a process each), {plan.proplets:,} "
        f"proplets' messages, {sessions}, and the Wasm runs of {real:,} of them",
        f"simulated: the other {plan.proplets - real:,} run no module; they send "
        f"{plan.recordings} updates recorded from real runs, put on the round's model",
        "shared by all proplets: this process, one thread, and one more session, which reads "
        "image, model and end of round",
    ]


def _line(row: FleetRound) -> str:
    mean = "not checked" if row.mean_error is None else f"off by {row.mean_error:.1e}"
    return (
        f"round {row.number}: {row.status}, {row.accepted:,} updates in {row.seconds:.2f} s "
        f"({row.sent:,} sent, {row.lost_updates:,} and {row.lost_answers:,} answers lost, "
        f"{row.dropped:,} dropped out, {row.real:,} by Wasm); mean {mean}"
    )


def _tables(result: FleetResult) -> tuple[Table, Table]:
    """What happened, and what it took, by round."""
    rounds = Table(title=f"{result.proplets:,} proplets, {result.sessions:,} sessions")
    for name in ("round", "seconds", "accepted", "refused", "update bytes", "bytes up", "down"):
        rounds.add_column(name, justify="right")
    names = list(result.rounds[0].cpu_s)
    processes = Table(title="memory in MiB, and processor time in s, by process")
    for name in ("round", *names):
        processes.add_column(name, justify="right")
    for row in result.rounds:
        numbers = (row.accepted, sum(row.refused.values()), row.update_bytes, row.up_bytes)
        rounds.add_row(
            str(row.number),
            f"{row.seconds:.2f}",
            *(f"{number:,}" for number in (*numbers, row.down_bytes)),
        )
        costs = (f"{row.rss_bytes[n] / _MIB:,.0f}, {row.cpu_s[n]:.1f}" for n in names)
        processes.add_row(str(row.number), *costs)
    return rounds, processes
