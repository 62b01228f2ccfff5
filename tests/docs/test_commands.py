"""Every command of README.md and the documents: run, or on a short list that says why not."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from propeller_fl.cli import main
from tests.docs.commands import (
    PAGES,
    REPOSITORY,
    Command,
    all_commands,
    commands_of,
    mentions_of,
    words_of,
)
from tests.docs.known import BEGINS, CHANGED, NO_COMMANDS, NOT_RUN, as_run, why_not_run
from tests.docs.terminal import Terminal

RUN = [page for page in PAGES if any(not why_not_run(one) for one in commands_of(page))]


def parsed(words: list[str]) -> click.testing.Result:
    """As our command line reads them, without doing anything; what is abridged is left out."""
    return CliRunner().invoke(main, [*(word for word in words if word != "…"), "--help"])


@pytest.mark.timeout(900)  # of which a page needs some seconds where nothing else runs
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Terminal(tmp_path, monkeypatch) as terminal:
        if page in BEGINS:
            BEGINS[page](terminal)
        for command in commands_of(page):
            if not why_not_run(command):
                terminal.type(as_run(command, terminal.values))
    if terminal.missing:
        pytest.skip(f"all but those with what is not installed: {', '.join(terminal.missing)}")


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)])
def test_what_is_not_run_is_still_a_command(page: str) -> None:
    for command in commands_of(page):
        if why_not_run(command):
            check(command)


def check(command: Command) -> None:
    """That what it names of ours is there, as far as can be seen without doing it."""
    words = words_of(command.text)
    if "propeller-fl" in words:
        last = len(words) - words[::-1].index("propeller-fl")
        result = parsed(words[last:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    if "operator" in words:  # a service of the compose files, whose entry point is ours
        result = parsed(words[words.index("operator") + 1 :])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    if words[0] == "make":
        made = subprocess.run(
            ["make", "-n", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, f"{command}\n{made.stderr}"
    for word in words:
        if re.match(r"(bench|boards|deploy|hil_tests|tests|wasm_client)/[^*]*$", word):
            assert (REPOSITORY / word).exists(), f"{command}: there is no {word}"
        for extras in re.findall(r"propeller-fl\[([\w,]+)\]", word):
            project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
            assert set(extras.split(",")) <= set(project["optional-dependencies"]), command


@pytest.mark.parametrize("page", [page for page in PAGES if mentions_of(page)])
def test_what_a_text_mentions_is_a_command(page: str) -> None:
    for mention in set(mentions_of(page)) - NO_COMMANDS:
        result = parsed(words_of(mention)[1:])
        assert result.exit_code == 0, f"{page}: {mention}\n{result.output}"


def test_the_list_names_nothing_that_is_gone() -> None:
    texts = [(one.page, " ".join(words_of(one.text))) for one in all_commands()]
    for excuse in NOT_RUN:
        assert any(
            excuse.page in ("", page) and re.match(excuse.matches, text) for page, text in texts
        ), f"no command needs: {excuse}"
    raw = [(one.page, re.sub(r"\\\n\s*", "", one.text)) for one in all_commands()]
    for change in CHANGED:
        assert any(
            change.page in ("", page) and re.search(change.pattern, text) for page, text in raw
        ), f"no command needs: {change}"


def test_a_new_command_is_run_and_a_wrong_one_found() -> None:
    new = Command("docs/operate.md", 1, "propeller-fl round lits")
    assert not why_not_run(new)
    wrong = Command("docs/supermq.md", 1, "docker compose run operator round start --imag x")
    assert why_not_run(wrong)
    with pytest.raises(AssertionError, match="No such option"):
        check(wrong)
    with pytest.raises(AssertionError, match="No rule to make target"):
        check(Command("README.md", 1, "make tset"))


@pytest.mark.parametrize(
    ("language", "file"),
    [
        ("c", "examples/least_squares/least_squares.c"),
        ("typescript", "examples/least_squares_as/assembly/client.ts"),
    ],
)
def test_the_client_that_is_shown_is_the_one_that_is_run(language: str, file: str) -> None:
    page = (REPOSITORY / "docs/write-a-client.md").read_text()
    [shown] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert shown == (REPOSITORY / file).read_text()
