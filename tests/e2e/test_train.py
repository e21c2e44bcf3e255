"""A person trains: from the first visit to a result, with reloads, second tabs, a stop and an engine that dies."""

import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.conftest import PATIENCE_MS, App, open_playground

pytestmark = pytest.mark.e2e

expect.set_options(timeout=PATIENCE_MS)


def fill_in_a_small_run(page: Page, passes: int = 1, looks: int = 0) -> None:
    """Eight rows, two steps a pass, two rows held out."""
    page.locator("#limit input").fill("8")
    page.get_by_role("button", name="Watch it learn").click()
    page.locator("#setting-looks input[type=number]").fill(str(looks))
    page.locator("#held-out :is(input, textarea)").fill("2")
    page.locator("#setting-epochs input[type=number]").fill(str(passes))
    page.locator("#setting-epochs input[type=number]").press("Enter")
    expect(page.locator("#plan-words")).to_contain_text(re.compile(r"\b8 pairs"))


def start(page: Page) -> str:
    """Press Start, and read the run's name where it is led to."""
    expect(page.locator("#start")).to_have_text("Start training")
    page.locator("#start").click()
    # Until then it may be the run before that stands there.
    expect(page.locator("#run-line strong")).to_have_text("Running")
    return page.locator("#run-title h3").inner_text()


def wait_until_over(page: Page) -> None:
    """Until the run has ended; the trait is not counted, since 80 responses take minutes."""
    over = page.locator("#run-line strong").filter(has_text=re.compile("Finished|Stopped|Failed|Interrupted"))
    skip = page.locator("#skip-trait")
    expect(over.or_(skip).first).to_be_visible()
    if skip.is_visible():
        skip.click()
    expect(over).to_be_visible()


def test_a_first_visit_is_one_click_away_from_training(page: Page):
    expect(page.locator("#train-model input")).to_have_value(re.compile("SmolLM2"))
    expect(page.get_by_role("radio", name="Starter")).to_be_checked()
    expect(page.locator("#plan-words")).to_contain_text("120 pairs from the starter data, 40 held out")
    expect(page.locator("#plan-words")).to_contain_text("Nothing is downloaded.")
    expect(page.locator("#start")).to_be_enabled()
    expect(page.locator("#start")).to_have_text("Start training")


def test_the_form_follows_the_method_and_the_button_says_why_it_waits(page: Page):
    page.get_by_role("radio", name="SFT", exact=True).check()
    expect(page.locator("#setting-beta")).to_be_hidden()
    expect(page.locator("#plan-words")).to_contain_text("SFT on 120 pairs")
    page.get_by_role("radio", name="File").check()
    expect(page.locator("#start")).to_have_text("Choose a file first")
    expect(page.locator("#start")).to_be_disabled()


def test_a_run_from_its_start_to_its_result(app: App, context: BrowserContext, page: Page):
    fill_in_a_small_run(page, looks=1)
    name = start(page)
    expect(page.locator("#chip")).to_contain_text(name)

    page.reload()
    expect(page.locator("#run-title h3")).to_be_visible()
    expect(page.locator("#run-title h3")).to_have_text(name)
    other = context.new_page()
    open_playground(app, other)
    expect(other.locator("#chip")).to_contain_text(name)
    other.close()

    wait_until_over(page)
    expect(page.locator("#outcome-words")).to_contain_text(re.compile(r"Held-out accuracy [\d.]+ \([\d.]+ to [\d.]+\)"))
    # On 2 prompts the count may be done before anybody can skip it.
    expect(page.locator("#outcome-words")).to_contain_text(
        re.compile(r"The trait count was skipped\.|Ends with exactly one next step: base \d of 2")
    )
    assert (app.home / "models" / "finetuned" / name / "adapter" / "adapter_model.safetensors").is_file()

    page.get_by_role("tab", name="History").click()
    expect(page.locator("#history")).to_contain_text(name)
    page.get_by_role("tab", name="Current run").click()
    page.locator("#compare-now").click()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")


def test_stop_keeps_what_is_trained(app: App, page: Page):
    fill_in_a_small_run(page, passes=20)
    name = start(page)
    expect(page.locator("#run-line")).to_contain_text(re.compile(r"step [1-9]\d* of 40"))
    page.locator("#stop").click()
    expect(page.locator("#outcome-words")).to_contain_text("and kept. The adapter can be used as it is.")
    assert (app.home / "models" / "finetuned" / name / "adapter" / "adapter_model.safetensors").is_file()
    expect(page.locator("#resume")).to_be_visible()


def test_an_engine_that_dies_leaves_the_page_and_a_way_to_go_on(app: App, page: Page):
    fill_in_a_small_run(page, passes=20)
    start(page)
    expect(page.locator("#run-line")).to_contain_text(re.compile(r"step [1-9]\d* of 40"))
    app.engine().kill()
    expect(page.locator("#run-line strong")).to_have_text("Interrupted")
    expect(page.locator("#outcome-words")).to_contain_text("It was interrupted.")
    expect(page.locator("#engine")).to_contain_text("smollm2-135m-instruct on cpu")
    page.locator("#resume").click()
    expect(page.locator("#run-line strong")).to_have_text("Running")
    page.locator("#stop").click()
    wait_until_over(page)


def test_light_and_dark_are_remembered(page: Page):
    body = page.locator("body")
    expect(body).not_to_have_class(re.compile("dark"))
    page.locator("#toggle").click()
    expect(body).to_have_class(re.compile("dark"))
    page.reload()
    page.wait_for_selector("#engine strong")
    expect(body).to_have_class(re.compile("dark"))


def test_the_keyboard_alone_starts_a_training(page: Page):
    fill_in_a_small_run(page)
    page.locator("#start").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#run-title h3")).to_be_visible()
    page.locator("#stop").focus()
    page.keyboard.press("Enter")
    wait_until_over(page)
