"""What a whole deployment shows of real rounds; dashboard and alerts ask for nothing else."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from propeller_fl import __version__, config
from propeller_fl.deployment import Deployment, Role
from tests.observe.scrape import Scrape, scrape
from tests.support.peers import Peer, peer_at
from tests.support.rounds import start_message, update_message
from tests.support.wait import wait_until

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
OURS = re.compile(r"\b(?:propeller_fl|process)_[a-z_]+")
WAIT_S = 60


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("observed")
    flags = {
        "data_dir": str(directory / "state"),
        "broker.port": 0,
        "model_server.models_dir": str(directory / "models"),
        "model_server.http_port": 0,
        "metrics.enabled": True,
        "metrics.http_port": 0,
    }
    with Deployment(config.load(environ={}, flags=flags), Role.ALL) as running:
        yield running


@pytest.fixture(scope="module")
def before(deployment: Deployment) -> Scrape:
    """While nothing has happened yet."""

    return scrape_until(
        deployment,
        lambda now: now.value("propeller_fl_proplets", state="alive") == 3,
        "three proplets are alive",
    )


def scrape_until(deployment: Deployment, that: Callable[[Scrape], bool], what: str) -> Scrape:
    def found() -> list[Scrape]:
        now = scrape(deployment.metrics_address)
        return [now] if that(now) else []

    return wait_until(found, WAIT_S, what)[0]


@pytest.fixture(scope="module")
def after(deployment: Deployment, before: Scrape) -> tuple[Scrape, Any]:
    """Once a round of three has ended well, one has failed, one was refused, and so were updates;
    with the completion of the first."""
    with peer_at(deployment.address) as peer:
        rounds = [f"fl/rounds/{name}/+" for name in ("good", "bad", "none")]
        peer.subscribe(*rounds, "fl/rounds/good/acks/+")
        peer.publish("fl/rounds/start", start_message("good"))
        complete = peer.wait_for("fl/rounds/good/complete", timeout_s=WAIT_S)
        peer.publish("fl/rounds/start", start_message("bad", participants=["x"], k_of_n=1,
                                                      timeout_s=1))  # fmt: skip
        assert peer.wait_for("fl/rounds/bad/complete", timeout_s=WAIT_S)["status"] == "failed"
        peer.publish("fl/rounds/start", start_message("none", strategy="magic"))
        peer.wait_for("fl/rounds/none/status", lambda s: s["phase"] == "refused", timeout_s=WAIT_S)
        refused_twice(peer)

    def settled(now: Scrape) -> bool:
        done = now.value("propeller_fl_tasks_ended_total", status="done")
        stored, sent, forwarded = (
            now.value(f"propeller_fl_{name}_total")
            for name in ("models_stored", "tasks_sent", "updates_forwarded")
        )
        return (done, stored, sent, forwarded) == (3, 1, 3, 4)  # the late update is forwarded too

    return scrape_until(deployment, settled, "model stored, tasks ended, updates sent"), complete


def refused_twice(peer: Peer) -> None:
    """By the manager, for another's name; by the coordinator, for a round that has ended."""
    peer.publish("fl/rounds/good/updates/proplet-1", update_message("proplet-2", round_id="good"))
    peer.publish("fl/rounds/good/updates/late", update_message("late", round_id="good"))
    for who, reason in (("proplet-1", "identity"), ("late", "round_closed")):
        peer.wait_for(
            f"fl/rounds/good/acks/{who}",
            lambda ack, reason=reason: ack.get("reason") == reason,  # type: ignore[misc]
            timeout_s=WAIT_S,
        )


def test_before_the_first_round_every_count_is_there_and_zero(before: Scrape) -> None:
    assert before.value("propeller_fl_build_info", version=__version__,
                        python=platform.python_version()) == 1  # fmt: skip
    assert before.value("propeller_fl_ready") == 1
    assert before.value("propeller_fl_latest_model_version") == 0
    for session in ("coordinator", "manager", "model-server"):
        assert before.value("propeller_fl_broker_connected", session=session) == 1
    assert before.value("propeller_fl_proplet_sessions", state="connected") == 3
    counts = {name for name, kind in before.types.items() if kind == "counter"}
    ours = {
        name: value
        for (name, _), value in before.samples.items()
        if name.startswith("propeller_fl_") and name.removesuffix("_total") in counts
    }
    assert len(ours) >= 12
    assert set(ours.values()) == {0}, ours


def test_a_round_makes_the_numbers_right(after: tuple[Scrape, Any]) -> None:
    now, complete = after
    assert now.value("propeller_fl_rounds_opened_total") == 2
    assert now.value("propeller_fl_rounds_ended_total", outcome="complete") == 1
    assert now.value("propeller_fl_rounds_ended_total", outcome="failed") == 1
    assert now.value("propeller_fl_rounds_refused_total", reason="unknown_strategy") == 1
    assert now.value("propeller_fl_rounds", state="open") == 0
    assert now.value("propeller_fl_updates_accepted_total") == 3
    assert now.value("propeller_fl_updates_accepted_bytes_total") == complete["update_bytes"] > 0
    assert now.value("propeller_fl_module_runs_total", status="done") == 3
    assert now.value("propeller_fl_latest_model_version") == 1
    assert now.value("propeller_fl_models_stored_bytes_total") > 0


def test_refused_updates_are_counted_by_who_refused_them_and_why(
    after: tuple[Scrape, Any],
) -> None:
    now, _ = after
    name = "propeller_fl_updates_refused_total"
    assert now.value(name, service="manager", reason="identity") == 1
    assert now.value(name, service="coordinator", reason="round_closed") == 1
    assert sum(value for (at, _), value in now.samples.items() if at == name) == 2


def test_times_are_counted_once_a_round(after: tuple[Scrape, Any]) -> None:
    now, _ = after
    assert now.value("propeller_fl_round_duration_seconds_count", outcome="complete") == 1
    failed_s = now.value("propeller_fl_round_duration_seconds_sum", outcome="failed")
    assert failed_s >= 1  # its deadline
    assert now.value("propeller_fl_aggregation_duration_seconds_count") == 1
    assert now.value("propeller_fl_aggregation_duration_seconds_sum") > 0
    assert now.value("propeller_fl_module_run_duration_seconds_count") == 3


def test_names_say_their_unit_and_every_metric_says_what_it_is(before: Scrape) -> None:
    for name, kind in before.types.items():
        if name.startswith("propeller_fl_") and kind == "histogram":
            assert name.endswith("_seconds")
        assert not name.endswith(("_ms", "_millis", "_kb"))


def expressions() -> dict[str, str]:
    """Every query of the dashboard and of the alerts, by where it stands."""
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    found = {
        f"panel {panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = variable["query"]["query"]
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    for group in rules["groups"]:
        found |= {f"alert {rule['alert']}": rule["expr"] for rule in group["rules"]}
    return found


def test_dashboard_and_alerts_name_only_metrics_and_labels_that_there_are(
    after: tuple[Scrape, Any],
) -> None:
    now, _ = after
    labels = {name: {label for at, pairs in now.samples if at == name for label, _ in pairs}
              for name in now.names}  # fmt: skip
    asked = set()
    for where, expression in expressions().items():
        names = set(OURS.findall(re.sub(r"\b(?:sum|count|max|min) by \([^)]*\)", "", expression)))
        assert names, f"{where} asks for nothing"
        assert names <= now.names, f"{where}: there is no {names - now.names}"
        asked |= names
        for name, chosen in re.findall(r"(propeller_fl_[a-z_]+)\{([^}]*)\}", expression):
            wanted = set(re.findall(r"(\w+)\s*[=!]~?", chosen)) - {"job"}
            assert wanted <= labels[name], f"{where}: {name} has no label {wanted - labels[name]}"
    shown = {name for name in now.names if name.startswith("propeller_fl_")}
    spare = {name for name in shown if not name.endswith(("_sum", "_count", "_created"))} - asked
    assert not spare, f"nobody looks at {spare}"


def test_every_alert_is_explained_to_who_operates() -> None:
    manual = (MONITORING.parents[1] / "docs" / "operate.md").read_text()
    alerts = [name for name in expressions() if name.startswith("alert ")]
    assert len(alerts) >= 8
    for name in alerts:
        assert f"`{name.removeprefix('alert ')}`" in manual


def test_every_metric_is_in_the_manual(before: Scrape) -> None:
    manual = (MONITORING.parents[1] / "docs" / "operate.md").read_text()
    for name, kind in before.types.items():
        if name.startswith("propeller_fl_"):
            assert f"`{name}{'_total' if kind == 'counter' else ''}`" in manual, name
