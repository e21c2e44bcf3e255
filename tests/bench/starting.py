"""How soon the playground answers: its page beside a bare Gradio app's, and the starter model's first response.

Both apps are started by turns in one run, each on a free port of its own. A browser stands open already; it opens the
page as soon as that answers, Train and its plan included, goes to Chat and asks once the model is there: by then the
engine has begun to measure the machine for the plan. Run it with `python -m tests.bench.starting`; `--quick` starts
each once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright

from core import paths
from core.ui.app import HOST, free_port
from tests.bench.table import Row, as_markdown, below, within
from tests.e2e.conftest import environment, open_browser

STARTS = 3
# A page within this many times a bare one's; a first response within these seconds of the command.
PAGE_BAR, ANSWER_BAR_S = 1.3, 15.0
# Bounds for a machine that is busy with something else.
START_S, ANSWER_S, END_S = 60.0, 90.0, 20.0
MESSAGE, MAX_NEW_TOKENS = "Say hello.", 12
BARE = """
import sys
import gradio as gr

with gr.Blocks() as demo:
    gr.Textbox()
demo.launch(server_name=sys.argv[1], server_port=int(sys.argv[2]), quiet=True)
"""


@dataclass(frozen=True)
class Start:
    """Seconds from the command; None for what is not there."""

    page_s: float
    answer_s: float | None = None


def measure(is_quick: bool) -> list[Row]:
    """Start both apps by turns; the quick form once each."""
    base = paths.base_dir()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = open_browser(playwright)
        pairs = []
        for number in range(1 if is_quick else STARTS):
            home = Path(folder) / str(number)
            (home / "models").mkdir(parents=True)
            (home / "models" / "base").symlink_to(base)
            pairs.append((_ours(browser, home), _bare(home)))
        browser.close()
    return rows(pairs)


def rows(pairs: Sequence[tuple[Start, Start]]) -> list[Row]:
    ours = [start for start, _ in pairs]
    page, bare = (median(start.page_s for start in side) for side in zip(*pairs, strict=True))
    answer_s = median(start.answer_s for start in ours)
    return [
        within("start until the page answers; a bare Gradio app's", page, bare, PAGE_BAR),
        below("start until the first response, its page open beside it", answer_s, ANSWER_BAR_S),
    ]


def _ours(browser: Browser, home: Path) -> Start:
    port = free_port(HOST, 0)
    began = time.perf_counter()
    with _running(["playground.py", "--no-browser", "--port", str(port)], home):
        page_s = _answers(port, began)
        return Start(page_s, _ask(browser, port, began))


def _bare(home: Path) -> Start:
    port = free_port(HOST, 0)
    began = time.perf_counter()
    with _running(["-c", BARE, HOST, str(port)], home):
        return Start(_answers(port, began))


@contextlib.contextmanager
def _running(arguments: Sequence[str], home: Path) -> Iterator[None]:
    """An app in a process group of its own, which is over when this is left."""
    own = environment(home) | {"GRADIO_ANALYTICS_ENABLED": "False"}
    # As many threads as a user's machine would give it.
    own.pop("OMP_NUM_THREADS")
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=paths.PROJECT_ROOT, env=own, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int, began: float) -> float:
    while time.perf_counter() - began < START_S:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=START_S) as said:
            if said.status == 200:
                return time.perf_counter() - began
        time.sleep(0.02)
    raise SystemExit(f"No page answered within {START_S:.0f} s.")


def _ask(browser: Browser, port: int, began: float) -> float:
    """Seconds until the first response is whole, asked as soon as the page shows the loaded model."""
    context = browser.new_context()
    context.set_default_timeout(1000 * ANSWER_S)
    page = context.new_page()
    page.goto(f"http://{HOST}:{port}/")
    page.get_by_role("tab", name="Chat").click()
    page.locator("#chat-sampling > button").click()
    number = page.locator("#chat-max_new_tokens input[type=number]")
    number.fill(str(MAX_NEW_TOKENS))
    number.press("Enter")
    page.locator("#chat-message textarea").fill(MESSAGE)
    page.locator("#engine strong").wait_for()
    page.locator("#chat-message textarea").press("Enter")
    page.locator("#chat-base-caption").filter(has_text="tokens").wait_for()
    answer_s = time.perf_counter() - began
    context.close()
    return answer_s


if __name__ == "__main__":
    print(as_markdown(measure("--quick" in sys.argv)))
