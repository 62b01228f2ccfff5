"""`propeller-fl demo`"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from propeller_fl import demo as demo_
from propeller_fl import learn
from propeller_fl.cli._context import fails_clearly, named_values
from propeller_fl.errors import ConfigError


@click.command()
@click.option("--proplets", default=10, show_default=True, type=click.IntRange(min=0))
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(min=1))
@click.option("--partition", default="iid", show_default=True, help="iid, dirichlet:A, shards:N.")
@click.option("--hidden", default=32, show_default=True, help="Hidden units; 0: plain softmax.")
@click.option("--epochs", default=5, show_default=True)
@click.option("--lr", default=0.5, show_default=True)
@click.option("--strategy", default="fedavg", show_default=True, help="docs/strategies.md")
@click.option("--strategy-arg", "strategy_args", multiple=True, metavar="NAME=VALUE")
@click.option("--seed", default=0, show_default=True)
@click.option("--target", default=0.95, show_default=True, help="Accuracy that makes it status 0.")
@click.option("--processes", is_flag=True, help="Give each proplet its own process.")
@click.option("--board", default="", help="Firmware proplets too: native_sim, mps2_an385.")
@click.option("--devices", default=2, show_default=True, help="How many, with --board.")
@click.option("--timeout-s", default=60.0, show_default=True, help="Deadline of a round.")
@click.option(
    "--output",
    default="demo-out",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Models, picture, logs, data.",
)
@fails_clearly
def demo(
    proplets: int,
    rounds: int,
    partition: str,
    hidden: int,
    epochs: int,
    lr: float,
    strategy: str,
    strategy_args: tuple[str, ...],
    seed: int,
    target: float,
    processes: bool,
    board: str,
    devices: int,
    timeout_s: float,
    output: Path,
) -> None:
    """Train on the 8×8 digits, shared out over proplets, and show how it goes.

    Everything is real and local: an embedded broker on a free port, manager, coordinator, model
    server and proplets. Status 0 when the target accuracy is reached.
    """
    if not board and not proplets:
        raise click.UsageError("nobody to train: --proplets 0 without --board")
    plan = demo_.DemoPlan(
        output=output,
        proplets=proplets,
        rounds=rounds,
        partition=demo_.Partition.parse(partition),
        hidden=hidden,
        epochs=epochs,
        lr=lr,
        strategy=strategy,
        strategy_args=named_values("--strategy-arg", strategy_args),
        seed=seed,
        target=target,
        own_processes=processes,
        board=board,
        devices=devices if board else 0,
        timeout_s=timeout_s,
    )
    learn.strategy(plan.strategy, plan.strategy_args)  # refused before anything is started
    logging.getLogger("propeller_fl").setLevel(logging.ERROR)
    view = demo_.make_view()
    with view.showing():
        result = demo_.run(plan, view)
    view.finish(result, target)
    picture = output / "accuracy.png"
    try:
        click.echo(demo_.draw_curve(result.rows, target, picture))
        click.echo(f"picture: {picture}")
    except ConfigError as err:
        click.echo(str(err))
    click.echo(f"models:  {output / 'models'}")
    sys.exit(0 if result.ok else 1)
