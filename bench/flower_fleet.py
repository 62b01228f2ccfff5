"""Flower's own simulation of rounds that do nothing, in the interpreter of .venv-flower:
`python bench/flower_fleet.py CLIENTS ROUNDS PARAMETERS`.

Its clients send back what they were sent, its server averages that, and nobody evaluates. Prints
the seconds of each round, from its configuration to the end of its aggregation, as a list of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

CLIENTS, ROUNDS, PARAMETERS = map(int, sys.argv[1:])
SECONDS: list[float] = []

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    content = {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 10})}
    return Message(RecordDict(content), reply_to=message)


class Timed(FedAvg):
    """Waits for all clients before the first round, which is theirs and not the round's time."""

    _began_s = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        while len(list(grid.get_node_ids())) < CLIENTS:
            time.sleep(0.05)
        self._began_s = time.monotonic()
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        assert len(replies) == CLIENTS
        assert not any(reply.has_error() for reply in replies)
        found = super().aggregate_train(server_round, replies)
        SECONDS.append(time.monotonic() - self._began_s)
        return found


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    model = ArrayRecord([np.zeros(PARAMETERS, np.float32)])
    strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=CLIENTS,
                     min_available_nodes=CLIENTS)  # fmt: skip
    strategy.start(grid, model, num_rounds=ROUNDS)


if __name__ == "__main__":
    # on this machine, as everything here
    here = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    run_simulation(server_app, client_app, CLIENTS, backend_config={"init_args": here})
    print(json.dumps(SECONDS))
