"""A person chats: side by side, with what they type shown as text, with Stop and Retry, and while a run goes on."""

import re
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.conftest import PATIENCE_MS
from tests.e2e.talking import Talking, talking_page
from tests.e2e.test_compare import choose, keep_it_short
from tests.e2e.test_train import fill_in_a_small_run, start, wait_until_over

pytestmark = pytest.mark.e2e

expect.set_options(timeout=PATIENCE_MS)

HOSTILE = "<img src='http://198.51.100.1/a.png' onerror='window.hit=1'> ![x](http://198.51.100.1/b.png) **bold**"


@pytest.fixture
def talking(context: BrowserContext) -> Iterator[Talking]:
    with talking_page(context) as talking:
        yield talking


def open_chat(page: Page, adapter: str) -> None:
    page.get_by_role("tab", name="Chat").click()
    choose(page, "#chat-adapter", adapter)


def say(page: Page, text: str) -> None:
    page.locator("#chat-message textarea").fill(text)
    page.locator("#chat-message textarea").press("Enter")


def test_both_answer_side_by_side_and_every_text_stays_text(talking: Talking):
    page = talking.page
    open_chat(page, talking.adapter)
    say(page, HOSTILE)
    for pane, who in (("base", "base"), ("tuned", talking.adapter)):
        expect(page.locator(f"#chat-{pane}")).to_contain_text(f"{who} hears <img src='http://198.51.100.1/a.png'")
        expect(page.locator(f"#chat-{pane}")).to_contain_text("![x](http://198.51.100.1/b.png) **bold**")
        expect(page.locator(f"#chat-{pane} img[src*='198.51']")).to_have_count(0)
        expect(page.locator(f"#chat-{pane}-caption")).to_contain_text("tokens")
    assert page.evaluate("window.hit") is None
    expect(page.locator("#chat-message textarea")).to_have_value("")


def test_retry_and_clear(talking: Talking):
    page = talking.page
    open_chat(page, talking.adapter)
    say(page, "Hello")
    expect(page.locator("#chat-tuned-caption")).to_contain_text("tokens")
    page.locator("#chat-strength input[type=number]").fill("0.5")
    page.locator("#chat-strength input[type=number]").press("Tab")
    # Between the click and the response that it asks for, Stop is still as the first response left it.
    is_asked = threading.Event()
    talking.client.on_word = is_asked.set
    page.locator("#chat-retry").click()
    assert is_asked.wait(PATIENCE_MS / 1000)
    expect(page.locator("#chat-tuned-caption")).to_have_text("7 tokens. Adapter strength 0.5.")
    expect(page.locator("#chat-stop")).to_be_disabled()
    expect(page.locator("#chat-base .message-row")).to_have_count(2)
    first, again = talking.client.streamed
    assert [turn.conversation for turn in first] == [turn.conversation for turn in again]
    assert [(a.strength, b.strength) for a, b in zip(first, again, strict=True)] == [(1.0, 1.0), (1.0, 0.5)]
    page.locator("#chat-clear").click()
    expect(page.locator("#chat-base .message-row")).to_have_count(0)
    say(page, "Again")
    expect(page.locator("#chat-base .bot")).to_have_text(re.compile("base hears Again"))
    assert len(talking.client.streamed[-1][0].conversation) == 1


def test_stop_keeps_what_was_said_and_the_next_message_works(talking: Talking):
    page, client = talking.page, talking.client
    go = threading.Event()
    said: list[None] = []

    def hesitate() -> None:
        said.append(None)
        if len(said) == 3:
            go.wait(30)

    client.on_word = hesitate
    open_chat(page, talking.adapter)
    page.get_by_role("radio", name="Base", exact=True).check()
    expect(page.locator("#chat-tuned")).to_be_hidden()
    say(page, "Tell me of the sea")
    expect(page.locator("#chat-base .bot")).to_contain_text("base")
    page.locator("#chat-stop").click()
    expect(page.locator("#chat-stop")).to_have_text("Stopping")
    go.set()
    expect(page.locator("#chat-base-caption")).to_have_text("Stopped. It keeps what was said so far.")
    assert client.num_closed == 1
    expect(page.locator("#chat-base .bot")).to_contain_text("base hears")
    expect(page.locator("#chat-base")).not_to_contain_text("Error")
    say(page, "And now")
    expect(page.locator("#chat-base .bot").last).to_contain_text("base hears And now")


def test_two_visitors_never_see_each_other(talking: Talking, context: BrowserContext):
    other = context.new_page()
    other.goto(talking.url)
    for visitor, word in ((talking.page, "tea"), (other, "rain")):
        open_chat(visitor, talking.adapter)
        say(visitor, f"What is {word}?")
    for visitor, own, strange in ((talking.page, "tea", "rain"), (other, "rain", "tea")):
        expect(visitor.locator("#chat-tuned-caption")).to_contain_text("tokens")
        expect(visitor.locator("#chat-base")).to_contain_text(f"base hears What is {own}?")
        expect(visitor.locator("#chat-base")).not_to_contain_text(strange)


def test_chat_works_while_a_run_goes_on_and_the_page_says_what_that_costs(page: Page, trained: str):
    fill_in_a_small_run(page, passes=20)
    start(page)
    expect(page.locator("#run-line")).to_contain_text(re.compile(r"step [1-9]\d* of 40"))
    open_chat(page, trained)
    keep_it_short(page, "chat")
    expect(page.locator("#chat-notice")).to_contain_text("training stands still while it answers")
    say(page, "Hello")
    for pane in ("base", "tuned"):
        expect(page.locator(f"#chat-{pane}-caption")).to_contain_text("tokens")
    page.locator("#chip").click()
    page.locator("#stop").click()
    wait_until_over(page)
