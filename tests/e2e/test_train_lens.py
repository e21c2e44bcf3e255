"""A person looks before they train: into their data, at what a method sets, and through runs that are over."""

import json
import re
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Locator, Page, expect

from core import preferences
from core.paths import STARTER_NAME
from tests.conftest import transcript_row
from tests.e2e.conftest import PATIENCE_MS, App, open_playground

pytestmark = pytest.mark.e2e

expect.set_options(timeout=PATIENCE_MS)
RECORDED = Path(__file__).parent.parent / "recorded"


def choose_file(page: Page, path: Path) -> None:
    page.get_by_role("radio", name="File").check()
    page.locator("#file input[type=file]").set_input_files(path)


def test_every_row_can_be_looked_at_and_what_is_left_out_says_why(page: Page, tmp_path: Path):
    rows = [json.dumps(transcript_row(n)) for n in range(1, 21)]
    hostile = transcript_row(21)
    hostile["chosen"] += " <img src=x onerror=alert(1)> ![x](http://evil.example/a.png)"
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join([*rows, json.dumps(hostile), "not a row at all", rows[0]]) + "\n")
    choose_file(page, path)
    expect(page.locator("#data-found")).to_contain_text("HH-RLHF transcripts: chosen and rejected.")
    page.locator("#look").click()
    expect(page.locator("#lens-summary")).to_contain_text("2 left out")
    expect(page.locator("#lens-chosen")).to_contain_text("Box 1 holds 3 apples")
    # What stands in the data is text, whatever it looks like; a request elsewhere fails the test.
    page.locator("#lens-row input").fill("21")
    page.locator("#lens-row input").press("Enter")
    expect(page.locator("#lens-chosen")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator("#lens-left-out")).to_contain_text("not valid JSON")
    page.locator("#lens-left-out").get_by_text("not valid JSON").click()
    expect(page.locator("#lens-title")).to_contain_text("Row 22")


def test_columns_that_do_not_show_are_asked_for(page: Page, tmp_path: Path):
    path = tmp_path / "table.csv"
    lines = [f"What is in box {n}?,It holds {n} apples.,Who can say?" for n in range(12)]
    path.write_text("\n".join(["alpha,beta,gamma", *lines]) + "\n")
    choose_file(page, path)
    expect(page.locator("#columns")).to_be_visible()
    for label, column in (("prompt", "alpha"), ("chosen", "beta"), ("rejected", "gamma")):
        box = page.locator("#columns").get_by_label(re.compile(label, re.IGNORECASE)).first
        box.click()
        page.get_by_role("option", name=column).click()
    expect(page.locator("#plan-words")).to_contain_text("9 pairs")
    page.locator("#setting-epochs input[type=number]").fill("1")
    page.locator("#setting-epochs input[type=number]").press("Enter")
    expect(page.locator("#start")).to_have_text("Start training")
    page.locator("#start").click()
    expect(page.locator("#run-line strong")).to_have_text("Running")
    expect(page.locator("#run-title")).to_contain_text("table.csv")
    page.locator("#discard").click()
    page.locator("#really-discard").click()
    expect(page.locator("#discard")).to_be_hidden()


def test_a_method_says_what_it_sets_and_why(page: Page):
    page.get_by_role("radio", name="SFT", exact=True).check()
    expect(page.locator("#moved")).to_contain_text("5e-4")
    expect(page.locator("#moved")).to_contain_text("2e-4")
    page.get_by_role("radio", name="SFT, then DPO").check()
    expect(page.locator("#plan-words")).to_contain_text(re.compile("SFT.*DPO", re.DOTALL))
    expect(page.locator("#start")).to_have_text("Start training")


def keep(home: Path, name: str, recording: str) -> None:
    """A recorded run as it would lie in the home after it."""
    known = json.loads((RECORDED / f"{recording}.json").read_text())
    folder = home / "models" / "finetuned" / name
    folder.mkdir(parents=True)
    data = preferences.read("starter")
    digest = preferences.write_snapshot(data, folder / "data.jsonl")
    status = {"name": name, "method": known["method"], "status": "finished", "steps": known["steps"],
              "step": known["steps"], "base": STARTER_NAME, "dataset": "starter", "facts": known["facts"],
              "result": known["result"], "created_at": "2026-11-26T12:00:00+00:00"}  # fmt: skip
    config = {"method": known["method"], "model": STARTER_NAME, "dataset": "starter", "data": "data.jsonl",
              "data_sha256": digest, "settings": known["settings"], "pinned": known["prompts"]}  # fmt: skip
    lines = [{"prompts": known["prompts"], "responses": known["base"]}, *known["looks"]]
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known["rows"]))
    (folder / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "status.json").write_text(json.dumps(status))


def in_history(page: Page, name: str) -> Locator:
    return page.locator("#history").get_by_test_id(re.compile("cell-")).filter(has_text=name).first


def test_a_card_leads_to_the_next_run_and_looks_can_be_gone_through(app: App, page: Page):
    keep(app.home, "ranks-only", "ranks")
    page.reload()
    page.wait_for_selector("#engine strong")
    page.get_by_role("tab", name="History").click()
    in_history(page, "ranks-only").click()
    page.locator("#open-run").click()
    expect(page.locator("#run-title h3")).to_have_text("ranks-only")
    expect(page.locator("#coach")).to_contain_text("It ranks but does not speak")
    expect(page.locator("#watch-words")).to_contain_text("words")
    page.locator("#watch-at input[type=range]").focus()
    page.keyboard.press("Home")
    expect(page.locator("#watch-words")).to_contain_text("base")
    expect(page.locator("#reproduce")).to_contain_text(
        re.compile(r"python playground\.py train --config .*ranks-only/run\.yaml")
    )
    page.locator("#apply-0").click()
    expect(page.get_by_role("tab", name="Configure")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("radio", name="Earlier run")).to_be_checked()
    expect(page.locator("#start")).to_have_text("Start training")


def test_runs_are_renamed_laid_over_each_other_and_deleted(app: App, page: Page):
    keep(app.home, "one-run", "dpo-default")
    keep(app.home, "another-run", "sft")
    page.reload()
    page.wait_for_selector("#engine strong")
    page.get_by_role("tab", name="History").click()
    for name in ("one-run", "another-run"):
        page.locator("#overlay-runs input").click()
        page.get_by_role("option", name=name).click()
    expect(page.locator("#differences")).to_contain_text("Learning rate")
    expect(page.locator("#overlay-plot")).to_be_visible()
    page.keyboard.press("Escape")
    in_history(page, "one-run").click()
    page.locator("#run-name :is(input, textarea)").fill("first-run")
    page.locator("#rename-run").click()
    expect(page.locator("#history")).to_contain_text("first-run")
    page.locator("#delete-run").click()
    page.locator("#really-delete").click()
    expect(page.locator("#history")).not_to_contain_text("first-run")
    assert not (app.home / "models" / "finetuned" / "first-run").exists()
    other = page.context.new_page()
    open_playground(app, other)
    other.get_by_role("tab", name="History").click()
    expect(other.locator("#history")).to_contain_text("another-run")
