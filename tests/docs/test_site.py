"""The documents as a site: whole, with nothing loaded from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)  # seconds of work, on a machine with other things to do


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(config),
        "-d",
        str(out),
    ]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    built = build(REPOSITORY / "mkdocs.yml", out)
    assert built.returncode == 0, built.stderr
    return out


def test_it_needs_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="?(https?:[^">]*)',
                            page.read_text())  # fmt: skip
        assert loaded == [], page


def test_what_lies_beside_the_documents_is_shown(site: Path) -> None:
    assert "Two commands" in (site / "index.html").read_text(), "README.md"
    assert (
        'href="source/examples/row_models/row_models.c.html"'
        in (site / "large-models.html").read_text()
    )
    assert "fl_large_open" in (site / "source/examples/row_models/row_models.c.html").read_text()
    assert "propeller-fl.target" in (site / "source/deploy/systemd/index.html").read_text()


def test_public_names_are_in_the_reference(site: Path) -> None:
    assert 'href="api/learn.html"' in (site / "api.html").read_text()
    page = (site / "api/learn.html").read_text()
    assert 'id="propeller_fl.learn.FedAvgM"' in page
    assert 'id="propeller_fl.learn.Strategy.aggregate"' in page
    assert "_mean" not in re.findall(r'id="propeller_fl\.learn\.(\w+)"', page), "a private name"


def test_what_leads_nowhere_fails(tmp_path: Path) -> None:
    """With our settings, but without what takes long."""
    documents = tmp_path / "docs"
    documents.mkdir()
    (documents / "index.md").write_text("[a](missing.md) [b](index.md#missing) [c](#absent)\n")
    (documents / "forgotten.md").write_text("in no menu\n")
    config = tmp_path / "mkdocs.yml"
    settings = "docs_dir: docs\nhooks: []\nplugins: []\nextra_css: []\nnav: [index.md]\n"
    config.write_text(f"INHERIT: {REPOSITORY / 'mkdocs.yml'}\n{settings}")
    built = build(config, tmp_path / "site")
    assert built.returncode != 0
    for problem in ("'missing.md'", "'index.md#missing'", "'#absent'", "forgotten.md"):
        assert problem in built.stderr
