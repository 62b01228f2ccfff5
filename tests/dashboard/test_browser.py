"""The page in a real headless browser, on a real deployment.

With PICTURES=DIRECTORY in the environment, the pictures of docs/dashboard.md are written there.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from propeller_fl.deployment import Deployment
from propeller_fl.wire import (
    Alive,
    Discovery,
    ExperimentStart,
    Selection,
    StopRules,
    TaskResult,
)
from tests.dashboard.conftest import PROPLETS
from tests.support.peers import peer_at

PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
EVIL = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


@pytest.fixture
def page(browser: Browser, deployment: Deployment) -> Iterator[Page]:
    """The page, with the fleet on it. What it complains about on its console fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text) if is_complaint(said) else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(f"{deployment.dashboard_address}/")
    opened.get_by_role("row", name=PROPLETS[0]).wait_for()
    yield opened
    context.close()
    assert complaints == []


def is_complaint(said: ConsoleMessage) -> bool:
    refused = ("status of 409", "status of 400")  # which is how we refuse
    return said.type == "error" and not any(how in said.text for how in refused)


def start_round(page: Page, name: str, *, choose: str = "", **fields: str) -> None:
    """As a person does, with the keyboard where it matters. ``choose`` takes part as well."""
    page.get_by_role("button", name="Start a round").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Start a round")
    dialog.get_by_label("Name").fill(name)
    if choose:
        dialog.get_by_label(choose).check()
    for label, value in fields.items():
        dialog.get_by_label(label.replace("_", " ")).fill(value)
    dialog.get_by_role("button", name="Start", exact=True).press("Enter")


def test_a_round_started_from_the_page_completes_and_is_told(
    page: Page, deployment: Deployment
) -> None:
    start_round(page, "r-from-the-page")
    story = page.get_by_role("article", name="r-from-the-page")
    expect(story).to_contain_text("6 of 6", timeout=PATIENCE_MS)
    happened = story.get_by_role("list", name="What happened, in order")
    expect(happened).to_contain_text("→ fl/models/global_model_v1", timeout=PATIENCE_MS)
    for proplet in PROPLETS:
        expect(happened).to_contain_text(f"{proplet} accepted")
    row = page.get_by_role("row", name="r-from-the-page")
    expect(row).to_contain_text("complete")
    expect(row).to_contain_text("6 / 6")
    expect(page.get_by_role("img", name="accuracy")).to_be_visible(timeout=PATIENCE_MS)

    models = page.get_by_role("table", name="Model versions")
    expect(models.get_by_role("row")).to_have_count(3, timeout=PATIENCE_MS)  # with the heading
    with page.expect_download() as loading:
        models.get_by_role("link", name="version 1 as json").click()
    document = json.loads(Path(loading.value.path()).read_text())
    assert document["version"] == 1
    kept = deployment.settings.model_server.models_dir / "global_model_v1.json"
    assert document == json.loads(kept.read_text())


def test_what_the_coordinator_refuses_is_said_where_it_was_asked(page: Page) -> None:
    start_round(page, "r-refused", Module="builtin:linear")
    expect(page.get_by_role("dialog")).not_to_be_visible(timeout=PATIENCE_MS)
    start_round(page, "r-refused", Seconds_at_most="31")
    expect(page.get_by_role("alert").filter(has_text="r-refused is refused")).to_be_visible(
        timeout=PATIENCE_MS
    )


def test_a_round_that_cannot_end_is_stopped_from_the_page(
    page: Page, deployment: Deployment
) -> None:
    with peer_at(deployment.address) as peer:
        peer.publish("control/proplet/create", Discovery("ghost").encode())
    page.get_by_role("row", name="ghost").wait_for()
    start_round(page, "r-endless", choose="ghost", Seconds_at_most="86400")
    story = page.get_by_role("article", name="r-endless")
    expect(story).to_contain_text("6 of 7")
    page.set_viewport_size({"width": 360, "height": 740})
    stop = page.get_by_role("button", name="Stop round r-endless")
    stop.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Stop round r-endless?")
    expect(dialog).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    expect(stop).to_be_focused()
    expect(story).to_contain_text("open")
    stop.click()
    dialog.get_by_label("Reason").fill("a ghost is waited for")
    page.keyboard.press("Enter")
    expect(dialog).not_to_be_visible()
    expect(story).to_contain_text("stopped by operator: a ghost is waited for")
    expect(stop).not_to_be_visible()
    expect(story).to_contain_text("6 of 7")
    rounds = page.get_by_role("table", name="Rounds, the newest first")
    expect(rounds.get_by_role("row", name="r-endless")).to_contain_text("failed")
    expect(page.get_by_role("status").filter(has_text="r-endless has failed")).to_be_attached()


def test_an_experiment_is_started_paused_and_stopped_from_the_page(page: Page) -> None:
    page.get_by_role("button", name="Start an experiment").press("Enter")
    dialog = page.get_by_role("dialog", name="Start an experiment")
    text = dialog.get_by_label("What it is")
    made = text.input_value()
    for wrong, says in [
        (made.replace("[stop]", "[stop"), "at line"),
        (made.replace("rounds = 5", "rounds = 0"), "rounds"),
        (made.replace("lr = 0.1", "lr = 0.1\n[nonsense]"), "nonsense is not known"),
    ]:
        text.fill(wrong)
        dialog.get_by_role("button", name="Start", exact=True).click()
        expect(dialog.get_by_role("alert")).to_contain_text(says)
    name = re.search(r'experiment_id = "(x-[0-9-]+)"', made)
    assert name is not None
    alone = made.replace("at_least = 1", f'ids = ["{PROPLETS[0]}"]')
    text.fill(alone.replace("rounds = 5", "rounds = 100000"))
    dialog.get_by_role("button", name="Start", exact=True).click()
    expect(dialog).not_to_be_visible()
    row = page.get_by_role("row", name=name[1]).filter(has_text="/ 100,000")
    row.get_by_role("button", name="Pause").press("Enter")
    expect(row).to_contain_text("paused")
    row.get_by_role("button", name="Resume").click()
    expect(row).to_contain_text("running")
    row.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog", name="Stop experiment").get_by_text("Stop the experiment").click()
    expect(row).to_contain_text("stopped")
    expect(row.get_by_role("button")).to_have_count(0)


def test_an_experiment_is_followed_to_its_end(page: Page, deployment: Deployment) -> None:
    asked = ExperimentStart(
        "x-digits",
        "builtin:linear",
        Selection(ids=tuple(PROPLETS)),
        StopRules(rounds=2),
        hyperparams={"epochs": 1, "lr": 0.1},
    )
    with peer_at(deployment.address) as peer:
        peer.publish("fl/experiments/start", asked.encode())
    table = page.get_by_role("table", name="Experiments")
    row = table.get_by_role("row", name="x-digits")
    expect(row).to_contain_text("2 / 2", timeout=PATIENCE_MS)
    expect(row).to_contain_text("complete", timeout=PATIENCE_MS)
    expect(row).to_contain_text("accuracy")
    expect(row).to_contain_text("2 rounds have trained")
    expect(page.get_by_role("row", name="x-digits-r2")).to_contain_text("complete")


def test_names_from_the_wire_are_text(page: Page, deployment: Deployment) -> None:
    """Whatever a proplet says about itself, or a module says when it fails."""
    facts = {"runtime": EVIL, "version": EVIL, "arch": EVIL, "memory_bytes": EVIL}
    with peer_at(deployment.address) as peer:
        peer.publish("control/proplet/create", Discovery("evil", EVIL, facts).encode())
        peer.publish("control/proplet/alive", Alive("evil", namespace=EVIL).encode())
        failed = TaskResult("t-1", "evil", error=EVIL)
        peer.publish("control/proplet/results", failed.encode())
    row = page.get_by_role("row", name="evil")
    expect(row).to_contain_text(EVIL[:40], timeout=PATIENCE_MS)
    expect(row).to_contain_text("1 failed", timeout=PATIENCE_MS)
    assert page.locator("#fleet img, #fleet script").count() == 0
    assert page.evaluate("window.hit") is None


def test_the_page_needs_nothing_from_elsewhere_and_fits_a_phone(
    browser: Browser, deployment: Deployment
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    asked: list[str] = []
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{deployment.dashboard_address}/")
    page.get_by_role("row", name=PROPLETS[0]).wait_for(timeout=PATIENCE_MS)
    assert {url.split("/")[2] for url in asked} == {deployment.dashboard_address.split("/")[2]}
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Colours").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    context.close()


@pytest.mark.skipif("PICTURES" not in os.environ, reason="PICTURES names no directory")
def test_pictures(browser: Browser, deployment: Deployment) -> None:
    directory = Path(os.environ["PICTURES"])
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", device_scale_factor=1.5
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{deployment.dashboard_address}/")
    page.get_by_role("row", name=PROPLETS[0]).wait_for()
    for number in range(1, 9):
        name = f"r-{number:04}"
        start_round(page, name)
        story = page.get_by_role("article", name=name)
        expect(story).to_contain_text("→ fl/models", timeout=PATIENCE_MS)
    with peer_at(deployment.address) as peer:  # one more, for which somebody is not there
        start = {
            "round_id": "r-0009",
            "model_uri": "fl/models/global_model_v0",
            "task_wasm_image": "builtin:linear",
            "participants": [*PROPLETS, "proplet-7"],
            "hyperparams": {"epochs": 1, "lr": 0.1, "batch_size": 16},
            "k_of_n": 7,
            "timeout_s": 45,
        }
        peer.publish("fl/rounds/start", start)
        story = page.get_by_role("article", name="r-0009")
        expect(story).to_contain_text("6 of 7")
        sent = {"round_id": "r-0009", "proplet_id": "proplet-7", "num_samples": 12}
        sent |= {"base_model_uri": "fl/models/global_model_v3", "metrics": {}}
        sent |= {"update": {"w": [1, 2, 3], "b": 0}}
        peer.publish("fl/rounds/r-0009/updates/proplet-7", sent)
        expect(story).to_contain_text("proplet-7 refused stale_base_model")
        expect(page.get_by_role("row", name="r-0009")).to_contain_text("1 refused")
    take_picture(page, directory / "dashboard-light.png")
    page.emulate_media(color_scheme="dark")
    take_picture(page, directory / "dashboard-dark.png", full_page=True)
    page.get_by_role("button", name="Start a round").click()
    take_picture(page, directory / "dashboard-start.png")
    page.keyboard.press("Escape")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("window.scrollTo(0, 0)")
    take_picture(page, directory / "dashboard-phone.png", full_page=True)
    context.close()


def take_picture(page: Page, path: Path, *, full_page: bool = False) -> None:
    """With the 256 colours that are nearest to the page's, in a third of the bytes: all areas keep
    their colour, and edges of letters are off by what nobody sees."""
    taken = Image.open(io.BytesIO(page.screenshot(full_page=full_page))).convert("RGB")
    few = taken.quantize(256, kmeans=1, dither=Image.Dither.NONE)
    few.save(path, "PNG", optimize=True)
