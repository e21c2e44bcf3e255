"""A person compares: blind cards, keys, a reload in the middle, the result, its file, and a prompt just tried."""

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from core.export import COLUMNS
from tests.e2e.conftest import PATIENCE_MS, App, open_playground
from tests.e2e.talking import Talking, talking_page
from tests.fake_gemini import FakeGemini, prefers

pytestmark = pytest.mark.e2e

expect.set_options(timeout=PATIENCE_MS)

KEY = "AIzaCanary-0123456789-abcdefghijklmnop"
HOSTILE = "<img src='http://198.51.100.1/a.png'> ![x](http://198.51.100.1/b.png) What is **tea**?"


@pytest.fixture
def talking(context: BrowserContext) -> Iterator[Talking]:
    with talking_page(context) as talking:
        yield talking


def open_compare(page: Page, adapter: str) -> None:
    page.get_by_role("tab", name="Compare").click()
    choose(page, "#compare-adapter", adapter)


def choose(page: Page, dropdown: str, name: str) -> None:
    box = page.locator(f"{dropdown} input")
    expect(box).not_to_have_value("")
    box.click()
    page.get_by_role("option", name=name, exact=True).click()
    expect(box).to_have_value(name)


def keep_it_short(page: Page, place: str) -> None:
    """Few words a response: what is looked at here is the page."""
    page.locator(f"#{place}-sampling > button").click()
    longest = page.locator(f"#{place}-max_new_tokens input[type=number]")
    longest.fill("12")
    longest.press("Enter")
    page.locator(f"#{place}-sampling > button").click()


def start(page: Page, adapter: str) -> None:
    open_compare(page, adapter)
    keep_it_short(page, "compare")
    page.locator("#compare-start").click()
    expect(page.locator("#vote-prompt")).to_contain_text("Prompt 1 of 5 · quantum computing")


def press_on(page: Page, key: str, voted: str) -> None:
    """Press until it is heard: a key that comes while another vote is on its way is dropped."""
    for _ in range(10):
        page.keyboard.press(key)
        with contextlib.suppress(AssertionError):
            expect(page.locator("#vote-count")).to_contain_text(voted, timeout=PATIENCE_MS / 10)
            return
    expect(page.locator("#vote-count")).to_contain_text(voted)


def test_a_blind_comparison_from_start_to_the_csv(app: App, context: BrowserContext, page: Page, trained: str):
    start(page, trained)
    expect(page.locator("#compare-plan")).to_contain_text("Gemini is off: there is no key.")

    seen = page.locator("#vote-panel").inner_html()
    assert trained not in seen
    boxes = [page.locator(f"#card-{side} textarea").bounding_box() for side in "ab"]
    assert boxes[0]["height"] == boxes[1]["height"]
    assert page.locator("#card-a textarea").input_value()

    press_on(page, "1", "1 of 5 prompts voted")
    press_on(page, "u", "0 of 5 prompts voted")
    press_on(page, "2", "1 of 5 prompts voted")

    page.reload()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#vote-prompt")).to_contain_text("Prompt 2 of 5 · AI ethics in healthcare")
    other = context.new_page()
    open_playground(app, other)
    other.get_by_role("tab", name="Compare").click()
    expect(other.locator("#vote-count")).to_contain_text("1 of 5 prompts voted")
    other.close()

    press_on(page, "3", "2 of 5 prompts voted")
    page.locator("#vote-4").click()
    expect(page.locator("#vote-count")).to_contain_text("3 of 5 prompts voted")
    press_on(page, "5", "4 of 5 prompts voted")
    expect(page.locator("#results")).to_be_hidden()
    page.locator("#vote-1").click()

    expect(page.locator("#result-sentences")).to_contain_text(
        re.compile(r"You: .*win rate [\d.]+ \([\d.]+ to [\d.]+\) on 4 prompts\. 1 prompt without a verdict\.")
    )
    expect(page.locator("#result-bars")).to_contain_text("1 no verdict")
    page.locator("#result-table [role=gridcell]").first.click()
    expect(page.locator("#pair-base")).to_contain_text("base · sat on")
    expect(page.locator("#pair-tuned textarea")).not_to_have_value("")

    with page.expect_download() as download:
        page.locator("#result-csv").click()
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["human_verdict"] for row in rows] == ["B", "tie", "both_bad", "skip", "A"]
    assert {row["adapter"] for row in rows} == {trained}
    with page.expect_download() as download:
        page.locator("#result-log").click()
    assert download.value.suggested_filename.endswith(".log")


def test_nothing_on_the_page_tells_who_is_who_until_the_last_vote(talking: Talking, monkeypatch: pytest.MonkeyPatch):
    page = talking.page
    with FakeGemini(default=prefers(len)) as gemini:
        monkeypatch.setenv("GEMINI_API_KEY", KEY)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", gemini.url)
        start(page, talking.adapter)
        expect(page.locator("#compare-stop")).to_be_hidden()
    assert len(gemini.asked) == 10
    for number in range(1, 5):
        html = re.sub(r"<textarea.*?</textarea>", "", page.content(), flags=re.DOTALL)
        for telling in ("tuned is better", "base is better", "clearer", "sat on A", "sat on B", "win rate", KEY):
            assert telling not in html
        assert page.evaluate("JSON.stringify(window.gradio_config).includes('sat on A')") is False
        press_on(page, "1", f"{number} of 5 prompts voted")
    page.locator("#vote-1").click()
    expect(page.locator("#result-sentences")).to_contain_text("Gemini: leaning better, too few to be sure. 5 wins")
    expect(page.locator("#result-summary textarea")).to_have_value(re.compile("Stronger in: clarity"))
    assert KEY not in page.content()


def test_keys_rest_while_somebody_types_and_where_no_card_is(talking: Talking):
    page = talking.page
    start(page, talking.adapter)
    page.locator("#compare-prompts > button").click()
    page.locator("#compare-table [role=gridcell]").nth(1).dblclick()
    page.keyboard.type("12345")
    page.keyboard.press("Escape")
    page.locator("#compare-prompts > button").click()
    page.get_by_role("tab", name="Train").click()
    page.keyboard.press("3")
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#vote-count")).to_contain_text("0 of 5 prompts voted")


def test_a_key_pressed_thrice_at_once_is_one_vote(talking: Talking):
    page = talking.page
    start(page, talking.adapter)
    for _ in range(3):
        page.keyboard.press("1")
    expect(page.locator("#vote-prompt")).to_contain_text("Prompt 2 of 5")
    page.reload()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#vote-count")).to_contain_text("1 of 5 prompts voted")


def test_edited_and_loaded_prompts_are_asked_and_shown_as_text(talking: Talking):
    page = talking.page
    open_compare(page, talking.adapter)
    page.locator("#compare-prompts > button").click()
    prompts = [{"id": "<b>t</b>", "category": "<i>tea</i>", "prompt": HOSTILE}]
    with page.expect_file_chooser() as chooser:
        page.locator("#compare-upload").click()
    chooser.value.set_files(
        files=[{"name": "mine.json", "mimeType": "application/json", "buffer": json.dumps(prompts).encode()}]
    )
    expect(page.locator("#compare-plan")).to_contain_text("answer 1 prompt,")
    page.locator("#compare-start").click()
    expect(page.locator("#vote-prompt textarea")).to_have_value(HOSTILE)
    expect(page.locator("#card-a textarea")).to_have_value(re.compile(re.escape(HOSTILE)))
    page.keyboard.press("3")
    expect(page.locator("#result-sentences")).to_contain_text("no difference shown")
    expect(page.locator("#result-table")).to_contain_text("<i>tea</i>")
    assert page.locator("#results img, #vote-panel img, #results i:not([class])").count() == 0


def test_a_prompt_is_tried_and_a_key_asks_the_next(talking: Talking):
    page = talking.page
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("tab", name="Try a prompt").click()
    choose(page, "#try-adapter", talking.adapter)
    page.locator("#try-text textarea").fill("What is 1n?")
    page.locator("#try-ask").click()
    expect(page.locator("#try-base textarea")).to_have_value("base hears What is 1n?")
    expect(page.locator("#try-tuned textarea")).to_have_value(f"{talking.adapter} hears What is 1n? Next step: try it.")
    expect(page.locator("#try-stop")).to_be_disabled()
    page.keyboard.press("n")
    expect(page.locator("#try-text textarea")).to_have_value(re.compile("^Explain quantum computing"))
    expect(page.locator("#try-base textarea")).to_have_value(re.compile("^base hears Explain quantum computing"))
