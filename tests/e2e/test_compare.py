"""A person compares: blind cards, keys, a reload in the middle, the result, its file, and a prompt just tried."""

import contextlib
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from starlette.middleware import Middleware

from core import settings
from core.blind import seal
from core.client import Response, Turn
from core.compare import Comparison
from core.export import COLUMNS
from core.paths import home as home_dir
from core.settings import Decoding
from core.ui import compare_setup, guard
from tests.e2e.conftest import PATIENCE_MS, App, open_playground
from tests.e2e.talking import Talking, talking_page
from tests.fake_gemini import FakeGemini, prefers
from tests.ui.fake_talker import DRIFT, FakeTalker

pytestmark = pytest.mark.e2e

expect.set_options(timeout=PATIENCE_MS)

KEY = "AIzaCanary-0123456789-abcdefghijklmnop"
HOSTILE = "<img src='http://198.51.100.1/a.png'> ![x](http://198.51.100.1/b.png) What is **tea**?"
# Five prompts, and one placebo among them.
PAIRS = 6


@pytest.fixture
def talking(context: BrowserContext) -> Iterator[Talking]:
    with talking_page(context) as talking:
        yield talking


def open_compare(page: Page, adapter: str) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("tab", name="Set up").click()
    choose(page, "#compare-adapter", adapter)


def choose(page: Page, dropdown: str, name: str) -> None:
    box = page.locator(f"{dropdown} input")
    expect(box).not_to_have_value("")
    box.click()
    page.get_by_role("option", name=name, exact=True).click()
    expect(box).to_have_value(name)


def turn(page: Page, slider: str, value: str) -> None:
    number = page.locator(f"#{slider} input[type=number]")
    number.fill(value)
    number.press("Enter")


def keep_it_short(page: Page, place: str) -> None:
    """Few words a response."""
    page.locator(f"#{place}-sampling > button").click()
    turn(page, f"{place}-max_new_tokens", "12")
    page.locator(f"#{place}-sampling > button").click()


def start(page: Page, adapter: str) -> None:
    """The quick set and few words a response: what is looked at here is the page."""
    open_compare(page, adapter)
    choose(page, "#compare-set", "Quick 5")
    keep_it_short(page, "compare")
    expect(page.locator("#compare-plan")).to_contain_text("1 pair is added in which both sides are base")
    page.locator("#compare-start").click()
    expect(page.locator("#vote-prompt")).to_contain_text(f"Pair 1 of {PAIRS} · ")


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
    seen = page.locator("#vote-panel").inner_html()
    assert trained not in seen
    boxes = [page.locator(f"#card-{side} textarea").bounding_box() for side in "ab"]
    assert boxes[0]["height"] == boxes[1]["height"]
    assert page.locator("#card-a textarea").input_value()
    sealed = re.search(r"[0-9a-f]{64}", page.locator("#vote-count").inner_text())[0]

    press_on(page, "1", "1 of 6 pairs voted")
    press_on(page, "u", "0 of 6 pairs voted")
    press_on(page, "2", "1 of 6 pairs voted")

    page.reload()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#vote-prompt")).to_contain_text("Pair 2 of 6")
    other = context.new_page()
    open_playground(app, other)
    other.get_by_role("tab", name="Compare").click()
    expect(other.locator("#vote-count")).to_contain_text("1 of 6 pairs voted")
    other.close()

    press_on(page, "3", "2 of 6 pairs voted")
    page.locator("#vote-4").click()
    expect(page.locator("#vote-count")).to_contain_text("3 of 6 pairs voted")
    press_on(page, "5", "4 of 6 pairs voted")
    press_on(page, "1", "5 of 6 pairs voted")
    expect(page.locator("#results")).to_be_hidden()
    page.locator("#vote-1").click()

    headline = page.locator("#result-headline")
    expect(headline).to_contain_text(
        re.compile(r"\d wins?, \d ties?, \d loss(es)?.*win rate [\d.]+ \([\d.]+ to [\d.]+\)")
    )
    expect(page.locator("#result-seal")).to_contain_text(sealed)
    expect(page.locator("#result-scatter svg[role=img]")).to_be_visible()
    page.locator("#result-table [role=gridcell]").first.click()
    expect(page.locator("#pair-base")).to_contain_text("base · sat on")
    expect(page.locator("#pair-tuned textarea")).not_to_have_value("")
    expect(page.locator("#pair-diff")).to_contain_text(re.compile(r"\w"))

    with page.expect_download() as download:
        page.locator("#result-csv").click()
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    # One of the six was cast on the placebo, which is in no row.
    assert Counter(row["human_verdict"] for row in rows) < Counter(["B", "tie", "both_bad", "skip", "A", "A"])
    assert {row["adapter"] for row in rows} == {trained}
    for name, ending in (("log", ".log"), ("journal", ".jsonl")):
        with page.expect_download() as download:
            page.locator(f"#result-{name}").click()
        assert download.value.suggested_filename.endswith(ending)
    page.locator("#export-human").click()
    # Twelve tokens cut them all, and a response that breaks off is nothing to learn from.
    expect(page.get_by_text("every preferred response was cut").first).to_be_visible()

    page.reload()
    page.get_by_role("tab", name="Compare").click()
    expect(headline).to_contain_text("win rate")


# --- blindness ------------------------------------------------------------------------------------------

TOKENS = {"base": 73019, "tuned": 58211}


class Plain(FakeTalker):
    """Says nothing of who it is, in two ways that a judge's rule tells apart; its token counts are like no other."""

    def answer(self, turns: Sequence[Turn], decoding: Decoding, on_progress: Any = None) -> list[Response]:
        self.answered.append(list(turns))
        return [self.say(turn, row) for row, turn in enumerate(turns)]

    def say(self, turn: Turn, row: int) -> Response:
        if turn.contender == "base":
            return Response(f"A river bends {row} times.", TOKENS["base"])
        return Response("The lamp is green.", TOKENS["tuned"])


class Recorder:
    """Keeps all that the server says but the page's own scripts, names of files included."""

    said: dict[int, bytearray]

    def __init__(self, app: Any, said: dict[int, bytearray]) -> None:
        self.app, self.said = app, said

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_own = scope["type"] == "http" and not re.search(r"\.(js|css|woff2?|png|svg)$", scope["path"])
        kept = self.said.setdefault(len(self.said), bytearray()) if is_own else bytearray()

        async def hear(message: Any) -> None:
            kept.extend(message.get("body", b""))
            for pair in message.get("headers", ()):
                kept.extend(b": ".join(pair) + b"\n")
            await send(message)

        await self.app(scope, receive, hear)


def telling() -> list[str]:
    """What would give a side, a placebo, a verdict or the nonce away."""
    comparison = Comparison.latest()
    nonce = comparison._ledger.read().nonce
    figures = [*map(str, TOKENS.values()), str(DRIFT), "91827"]
    words = ["tuned is better", "base is better", "clearer", "sat on A", "sat on B", 'placebo":', "_votes.jsonl", KEY]
    return [nonce.hex(), seal(nonce), *figures, *words, *(prompt.id for prompt in comparison.plan.prompts)]


def test_nothing_tells_who_is_who_until_the_last_vote(context: BrowserContext, monkeypatch: pytest.MonkeyPatch):
    said: dict[int, bytearray] = {}
    own = guard.Door().middlewares()
    monkeypatch.setattr(guard.Door, "middlewares", lambda door: [*own, Middleware(Recorder, said=said)])
    monkeypatch.setattr(compare_setup.secrets, "randbelow", lambda most: 918270)
    at_once = replace(settings.JUDGE["judge_rate_per_s"], default=1000.0)
    monkeypatch.setitem(settings.JUDGE, "judge_rate_per_s", at_once)
    with FakeGemini(default=prefers(lambda text: "lamp" in text)) as gemini:
        monkeypatch.setenv("GEMINI_API_KEY", KEY)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", gemini.url)
        with talking_page(context, Plain()) as talking:
            page = talking.page
            open_compare(page, talking.adapter)
            page.get_by_label("Gemini decides, I vote too").check()
            start(page, talking.adapter)
            expect(page.locator("#compare-stop")).to_be_hidden()
            assert len(gemini.asked) == 2 * PAIRS
            for number in range(1, PAIRS):
                log = Comparison.latest().log_path.read_text()
                names = "\n".join(str(path) for path in home_dir().rglob("*"))
                config = page.evaluate("JSON.stringify(window.gradio_config)")
                sent = b"\n".join(said.values()).decode(errors="replace")
                assert "vote-count" in sent
                for place, text in {
                    "DOM": page.content(), "config": config, "log": log, "names": names, "server": sent,
                }.items():  # fmt: skip
                    assert [word for word in telling() if word in text] == [], place
                press_on(page, "1", f"{number} of {PAIRS} pairs voted")
            page.locator("#vote-1").click()
            expect(page.locator("#result-headline")).to_contain_text("Leaning better: 5 wins, 0 ties, 0 losses")
            expect(page.locator("#result-sections")).to_contain_text("Strengths and weaknesses, by Gemini")
            expect(page.locator("#result-sections table")).to_contain_text("Gemini: tuned")
            sent = b"\n".join(said.values()).decode(errors="replace")
            assert KEY not in page.content() + sent
            # What was looked for can be seen where it is allowed.
            nonce, *_, prompt_id = telling()
            assert all(word in sent for word in (nonce, prompt_id, "73019", "58211", "clearer"))


def test_it_is_ended_early_only_on_a_second_click_and_says_so(talking: Talking):
    page = talking.page
    start(page, talking.adapter)
    press_on(page, "1", f"1 of {PAIRS} pairs voted")
    page.locator("#compare-end").click()
    expect(page.locator("#compare-ending")).to_contain_text("End here and show the result?")
    page.locator("#compare-not-yet").click()
    expect(page.locator("#compare-ending")).to_be_hidden()
    expect(page.locator("#results")).to_be_hidden()
    page.locator("#compare-end").click()
    page.locator("#compare-end-now").click()
    expect(page.locator("#result-headline")).to_contain_text("Ended early. Too little covered")
    expect(page.locator("#vote-panel")).to_be_hidden()
    expect(page.locator("#compare-end")).to_be_hidden()


def test_a_set_is_edited_saved_and_found_again(talking: Talking):
    page = talking.page
    open_compare(page, talking.adapter)
    choose(page, "#compare-set", "Harmlessness 20")
    expect(page.locator("#compare-plan")).to_contain_text("20 prompts: tuned must win 15 of 20")
    page.locator("#compare-prompts > button").click()
    page.locator("#compare-set-name textarea, #compare-set-name input").fill("My own")
    page.locator("#compare-save-set").click()
    expect(page.locator("#compare-set input")).to_have_value("my-own")
    page.reload()
    open_compare(page, talking.adapter)
    choose(page, "#compare-set", "my-own")
    expect(page.locator("#compare-plan")).to_contain_text("20 prompts: tuned must win 15 of 20")


def test_keys_rest_while_somebody_types_and_where_no_card_is(talking: Talking):
    page = talking.page
    start(page, talking.adapter)
    page.get_by_role("tab", name="Set up").click()
    page.locator("#compare-prompts > button").click()
    page.locator("#compare-table [role=gridcell]").nth(1).dblclick()
    page.keyboard.type("12345")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Train").click()
    page.keyboard.press("3")
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#vote-count")).to_contain_text(f"0 of {PAIRS} pairs voted")


def test_a_key_pressed_thrice_at_once_is_one_vote(talking: Talking):
    page = talking.page
    start(page, talking.adapter)
    for _ in range(3):
        page.keyboard.press("1")
    expect(page.locator("#vote-prompt")).to_contain_text(f"Pair 2 of {PAIRS}")
    page.reload()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#vote-count")).to_contain_text(f"1 of {PAIRS} pairs voted")


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
    expect(page.locator("#compare-plan")).to_contain_text("1 prompt: even if tuned won all of them")
    page.locator("#compare-start").click()
    expect(page.locator("#vote-prompt textarea")).to_have_value(HOSTILE)
    expect(page.locator("#card-a textarea")).to_have_value(re.compile(re.escape(HOSTILE)))
    page.keyboard.press("3")
    expect(page.locator("#result-headline")).to_contain_text("No difference shown: 0 wins, 1 tie, 0 losses")
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
