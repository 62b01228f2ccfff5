"""Between two deployments of `init`: what the roles allow is enough for a round."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from propeller_fl import config
from propeller_fl.access import AccessDesk, AccessRole, Credential, Plan
from propeller_fl.deployment import Deployment, Role
from propeller_fl.operator import Operator
from propeller_fl.wire import Outcome, RoundComplete, RoundStart

LONG_S = 60.0


def deployment(desk: Path, roles: Role, **others: Any) -> Deployment:
    flags = {
        "data_dir": desk,
        "broker.port": 0,
        "model_server.http_port": 0,
        "model_server.models_dir": desk / "models",
    }
    named = {name.replace("__", "."): value for name, value in others.items()}
    return Deployment(config.load(environ={}, flags=flags | named), roles)


def test_a_round_between_two_deployments_with_logins(tmp_path: Path) -> None:
    prefix = "m/farm/c/fl"
    above = AccessDesk.init(tmp_path / "above", Plan(topic_prefix=prefix), ["barn"])
    AccessDesk.init(tmp_path / "edge", Plan(), ["d-1", "d-2"])
    barn = above.path_of("barn", AccessRole.PROPLET)
    with ExitStack() as stack:
        up = stack.enter_context(deployment(tmp_path / "above", Role.BROKER | Role.SERVICES))
        edge = deployment(
            tmp_path / "edge",
            Role.BROKER | Role.SERVICES | Role.PROPLETS | Role.AGGREGATOR,
            proplet__ids=("d-1", "d-2"),
            aggregator__upstream_credential=barn,
            aggregator__upstream_url=f"mqtts://{up.address.host}:{up.address.port}",
            aggregator__devices=2,
            aggregator__gather_s=300,
        )
        stack.enter_context(edge)
        assert edge.aggregator_name == f"barn of {up.address}"
        login = Credential.load(above.path_of("operator", AccessRole.OPERATOR)).address(up.address)
        operator = stack.enter_context(Operator(login, up.settings.topics, timeout_s=LONG_S))
        start = RoundStart(
            "r-1", "fl/models/global_model_v0", "builtin:linear", ("barn",),
            {"epochs": 1, "lr": 0.1, "batch_size": 16}, 1, 600.0,
        )  # fmt: skip
        operator.start_round(start)
        ends = [e for e in operator.watch("r-1", 120.0) if isinstance(e, RoundComplete)]
    assert [(end.status, end.num_updates) for end in ends] == [(Outcome.COMPLETE, 1)]
    assert ends[0].total_samples == 426  # of both devices: the data set but for what is held out
