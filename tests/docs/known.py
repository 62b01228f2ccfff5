"""What a test has to know about commands of the documents, beyond their text.

A command is run as it stands, in its page's order, in a directory of its page's own, unless it is
named here. To add one to a document is enough: if it can be run, nothing is to be added here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.access.test_walkthrough import COMMANDS as WALKED_THROUGH
from tests.docs import beginnings
from tests.docs.commands import Command, words_of
from tests.docs.terminal import Terminal


@dataclass(frozen=True)
class NotRun:
    """Commands that no test of documents can run, and why. Their options are still parsed."""

    matches: str  # from the start of the command on
    because: str
    page: str = ""  # "": any


_WORKSPACE = "needs a Zephyr workspace, or a board; make firmware-test has both where they are"

NOT_RUN = [
    NotRun("make ", "runs longer than a test may; that there is such a target is looked at"),
    NotRun("pytest |python -m tests", "it is what runs this"),
    NotRun("python wasm_client/build.py", "changes the package; tests/wasm_client/test_build.py"),
    NotRun("python bench/", "takes minutes"),
    NotRun("propeller-fl demo .*--board", _WORKSPACE),
    NotRun("west |build/zephyr", _WORKSPACE),
    NotRun("git clone |mkdir fl |python3 -m venv |export ZEPHYR", "makes a workspace by cloning"),
    NotRun("propeller-fl fleet simulate (?!.*--json)", "needs thousands of proplets; the one with "
           "more options is run with few, and tests/fleet/test_simulate.py runs others"),
    NotRun("sudo |install |cp .*/etc|cp .*/usr|systemctl |runuser ", "changes the machine"),
    NotRun("pip |npm .*install", "installs from a registry"),
    NotRun("docker |sed .*supermq", "needs Docker and SuperMQ; tests/deploy, tests/supermq"),
    NotRun("propeller-fl (supermq provision|--config secrets/)", "needs SuperMQ; all of them are "
           "run in tests/supermq/test_round.py", "docs/supermq.md"),
    NotRun("wasmtime ", "is a program of its own; our runtime is its library"),
    NotRun("curl --cacert", "needs a machine of that address; tests/access/test_deployment.py asks "
           "with certificate and token, and without", "docs/security.md"),
    NotRun("propeller-fl (--config deploy/cluster|init farm --host|--data-dir|--credentials)",
           "needs brokers on several machines; tests/deploy/test_cluster.py runs these files, "
           "tests/cluster/test_nodes.py makes such a deployment and runs it", "docs/scaling.md"),
    NotRun("propeller-fl ", "needs two deployments on two brokers; tests/aggregator has them",
           "docs/aggregation.md"),
    NotRun("propeller-fl round start … --strategy clipped_mean", "needs an example installed, as "
           "tests/learn/test_own_strategy.py does", "docs/strategies.md"),
]  # fmt: skip


@dataclass(frozen=True)
class Changed:
    """What is run instead of what stands there: a machine, a file or a size that a test has."""

    pattern: str
    by: str
    page: str = ""  # "": any


CHANGED = [
    Changed(r"\.venv/bin/", ""),
    Changed(r"mqtt://192\.168\.1\.10 ", "mqtt://127.0.0.1:{broker} ", "docs/firmware.md"),
    Changed(r"192\.168\.1\.10|0\.0\.0\.0", "127.0.0.1"),
    Changed(r"(propeller-fl demo .*)", r"\1 --proplets 3 --rounds 1 --target 0"),
    # a deadline of a round is no place to find out how busy a machine is
    Changed(r"(propeller-fl (--[\w-]+ \S+ )*(demo|fleet simulate|round start|test) .*)",
            r"\1 --timeout-s 300"),
    Changed(r'"timeout_s": 30', '"timeout_s": 300', "README.md"),
    Changed(r"simulate --proplets 1000 --rounds 3", "simulate --proplets 8 --rounds 1 --wasm 0.2 "
            "--recordings 2 --heartbeat-s 5"),
    Changed(r"FILE\.toml", "examples/experiments/linear.toml --rounds 1", "docs/experiments.md"),
    Changed(r"board-1,", "", "docs/firmware.md"),
    Changed(r"registry\.lan", "{registry}", "docs/images.md"),
    Changed(r"round start (.*)…", r"round start \1 --participants proplet-1", "docs/images.md"),
    Changed(r"proplet …", "proplet proplet-9", "docs/images.md"),
    Changed(r"model (get|show) 5", r"model \1 1", "docs/large-models.md"),
    Changed(r"curl -s ", "curl -sf --retry 60 --retry-all-errors ", "docs/operate.md"),
    Changed(r":9464/", ":{metrics}/", "docs/operate.md"),
    Changed(r":8080", ":{gateway}", "docs/propeller.md"),
    Changed(r"--wasm FILE", "--wasm client.wasm", "docs/propeller.md"),
]  # fmt: skip

NO_COMMANDS = {"propeller-fl image v1"}
"""What looks like one in running text."""

BEGINS: Mapping[str, Callable[[Terminal], None]] = {
    "docs/images.md": beginnings.a_module_and_a_registry,
    "docs/large-models.md": beginnings.a_large_model,
    "docs/operate.md": beginnings.a_deployment_with_metrics,
    "docs/propeller.md": beginnings.an_http_face,
    "docs/write-a-client.md": beginnings.a_compiler,
}
"""What a reader of the page has at hand before its first command."""


def why_not_run(command: Command) -> str:
    """The reason, or nothing."""
    text = " ".join(words_of(command.text))
    if command.page == "docs/security.md" and text.removeprefix("propeller-fl ") in WALKED_THROUGH:
        return "tests/access/test_walkthrough.py types it"
    for one in NOT_RUN:
        if one.page in ("", command.page) and re.match(one.matches, text):
            return one.because
    return ""


def as_run(command: Command, ports: Mapping[str, str]) -> str:
    """Its text with what has to be another; ``ports`` has what stands in braces."""
    text = re.sub(r"\s+#.*$", "", re.sub(r"\\\n\s*", "", command.text))
    for one in CHANGED:
        if one.page in ("", command.page):
            text = re.sub(one.pattern, one.by, text, flags=re.DOTALL)
    for name, value in ports.items():
        text = text.replace(f"{{{name}}}", value)
    return text
