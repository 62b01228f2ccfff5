"""A small fleet, from the command to its table: real broker, services, sessions and Wasm runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from propeller_fl.errors import ConfigError, RequestError
from propeller_fl.fleet import SERVICES, FleetPlan, simulate


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "propeller_fl", "fleet", "simulate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.timeout(400)  # seven processes start, on a machine that may be busy
def test_fifty_proplets_with_losses_and_dropouts_yield_the_mean(tmp_path: Path) -> None:
    output = tmp_path / "fleet"
    ran = run(
        *"--proplets 50 --rounds 2 --seed 5 --wasm 0.1 --loss 0.2 --dropout 0.1 --json".split(),
        *"--latency uniform:0:0.05 --samples lognormal:80:1 --resend-after-s 0.3".split(),
        *"--partition dirichlet:0.5 --recordings 4".split(),
        "--timeout-s", "200", "--output", str(output),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["ok"]
    assert found["plan"]["wasm_proplets"] == 5
    for row in found["rounds"]:
        assert row["status"] == "complete"
        assert row["accepted"] == 45
        assert row["dropped"] == 5
        assert row["real"] > 0
        assert row["mean_error"] is not None  # everybody's answer was seen, and the mean checked
        assert row["mean_error"] < 1e-5
        assert row["sent"] >= 45
        assert row["up_bytes"] > row["update_bytes"] > 45 * 2_600  # 650 float32 numbers each
        assert set(row["rss_bytes"]) == {"broker", "fleet", *SERVICES}
        assert min(row["rss_bytes"].values()) > 1 << 20
    assert sum(row["lost_updates"] for row in found["rounds"]) > 0
    assert sum(row["lost_answers"] for row in found["rounds"]) > 0
    assert (output / "models" / "global_model_v2.safetensors").exists()


@pytest.mark.timeout(900)
def test_a_fleet_spreads_over_the_nodes_of_a_cluster(tmp_path: Path) -> None:
    plan = FleetPlan(
        tmp_path / "fleet", proplets=20, rounds=1, nodes=3, recordings=2, timeout_s=300
    )
    result = simulate(plan)
    assert result.ok
    assert result.rounds[0].accepted == 20
    nodes = {"broker-1", "broker-2", "broker-3"}
    assert set(result.rounds[0].rss_bytes) == {*nodes, "fleet", *SERVICES}
    for name in nodes:
        assert "Starting nats-server" in (plan.output / name / "broker.log").read_text()


@pytest.mark.parametrize("nodes", [0, 2, 4])
def test_so_many_nodes_make_no_cluster(tmp_path: Path, nodes: int) -> None:
    with pytest.raises(ConfigError, match=f"{nodes} nodes"):
        FleetPlan(tmp_path, nodes=nodes)


@pytest.mark.timeout(400)
def test_proplets_may_share_sessions(tmp_path: Path) -> None:
    plan = FleetPlan(tmp_path / "fleet", proplets=20, rounds=1, sessions=3, recordings=2)
    lines: list[str] = []
    result = simulate(plan, lines.append)
    assert result.sessions == 3
    assert result.ok
    assert result.rounds[0].accepted == 20
    assert result.rounds[0].mean_error is not None
    assert "20 proplets over 3 sessions" in lines[0]


def test_what_is_not_its_own_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RequestError, match="not an earlier simulation"):
        simulate(FleetPlan(tmp_path, proplets=1))
    assert (tmp_path / "thesis.txt").exists()
