"""What a user sees of commands that need no deployment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wasmtime
from click.testing import CliRunner, Result

from propeller_fl.cli import main
from tests.end_to_end.modules import BAD_IMPORT


def invoke(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env).invoke(main, list(arguments))


@pytest.mark.parametrize(
    "name",
    ["up", "demo", "manager", "coordinator", "model-server", "broker", "proplet", "round",
     "round start", "round watch", "round list", "round show", "model list", "model show",
     "model get", "model put", "client build", "client run", "client check", "client push",
     "client pull", "client keygen", "client sign", "client trust", "doctor", "config", "test",
     "test http", "test local", "supermq", "supermq keygen", "supermq provision", "experiment",
     "experiment start", "experiment watch", "experiment pause", "experiment resume",
     "experiment stop", "experiment list", "experiment show", "experiment compare",
     "experiment proplets", "experiment export", "experiment serve"],
)  # fmt: skip
def test_every_command_has_help(name: str) -> None:
    result = invoke(*name.split(), "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_a_round_from_a_file_takes_no_options(tmp_path: Path) -> None:
    file = tmp_path / "round.json"
    file.write_text("{}")
    result = invoke("round", "start", str(file), "--update-format", "cbor")
    assert result.exit_code == 2
    assert "leave the options out" in result.output


def test_settings_rise_from_file_to_environment_to_flag(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'topic_prefix = "file"\n[model_server]\nhttp_port = 1\n[manager]\nliveness_timeout_s = 90\n'
        '[manager.images]\n"oci://a" = "builtin:linear"\n'
    )
    env = {"PROPELLER_FL_MODEL_SERVER_HTTP_PORT": "2", "MQTT_BROKER": "mqtt://u:secret@h:1"}
    result = invoke("--config", str(file), "--set", "model_server.http_port=3", "config", env=env)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["topic_prefix"] == "file"
    assert found["model_server"]["http_port"] == 3
    assert found["manager"] == {
        "liveness_timeout_s": 90.0,
        "images": {"oci://a": "builtin:linear"},
        "launch": True,
        "chunk_bytes": 131_072,
        "task_env": {},
    }
    assert found["broker"]["url"] == "mqtt://***@h:1"
    assert "secret" not in result.output
    assert json.loads(invoke("config", env=env).output)["model_server"]["http_port"] == 2


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("model_server.http_port=x", "model_server.http_port"),
        ("proplet.heartbeat_s=20", "at most a third"),
        ("nonsense=1", "no setting 'nonsense'"),
        ("topic_prefix=/a", "topic_prefix"),
    ],
)
def test_a_bad_setting_is_named(assignment: str, says: str) -> None:
    result = invoke("--set", assignment, "config")
    assert result.exit_code == 1
    assert says in result.output


def test_a_broker_that_is_not_there_is_said_in_one_line() -> None:
    result = invoke("--broker", "mqtt://127.0.0.1:1", "model", "list")
    assert result.exit_code == 1
    assert result.output.startswith("error: ")
    assert "127.0.0.1:1" in result.output


def test_the_builtin_modules_keep_the_contract() -> None:
    for name in ("linear", "softmax"):
        result = invoke("client", "check", f"builtin:{name}")
        assert result.exit_code == 0, result.output


def test_a_module_that_breaks_the_contract_is_told_how(tmp_path: Path) -> None:
    path = tmp_path / "clock.wasm"
    path.write_bytes(wasmtime.wat2wasm(BAD_IMPORT))
    result = invoke("client", "check", str(path))
    assert result.exit_code == 1
    assert "clock_time_get" in result.output
    assert "breaks the contract" in result.output
    path.write_bytes(b"junk")
    result = invoke("client", "check", str(path))
    assert result.exit_code == 1
    assert "not a Wasm module" in result.output


def test_an_error_is_an_event_where_json_was_asked_for(tmp_path: Path) -> None:
    result = invoke("--log-json", "--data-dir", str(tmp_path), "round", "list")
    assert result.exit_code == 1
    event = json.loads(result.output)
    assert event["level"] == "error"
    assert "there is no coordinator's store" in event["message"]


def test_a_file_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    result = invoke("--config", str(tmp_path), "config")
    assert result.exit_code == 1
    assert result.output.startswith("error: settings file")


def test_a_doctor_without_a_broker_looks_at_what_is_there(tmp_path: Path) -> None:
    models = f"model_server.models_dir={tmp_path / 'models'}"
    arguments = ("--data-dir", str(tmp_path), "--set", models, "doctor", "--stores-only")
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0
    subjects = {finding["subject"]: finding["level"] for finding in json.loads(result.output)}
    assert subjects == {"coordinator": "ok", "manager": "ok", "experiments": "ok", "models": "ok"}
    (tmp_path / "manager").mkdir()
    (tmp_path / "manager" / "launches.db").write_bytes(b"")
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "error   manager: database" in result.output
    assert "→ restore it from a backup" in result.output
