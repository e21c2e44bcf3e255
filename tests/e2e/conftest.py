"""The real app in its own process and home, and a real browser before it.

The app is started once for all browser tests of a session. A page that asks for anything outside this
machine, or whose console shows an error, fails the test that opened it.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, Playwright, sync_playwright

from core import paths

SYSTEM_BROWSER = Path("/usr/bin/chromium")
NO_BROWSER = (
    "The browser tests need Chromium. Install it with your system's package manager (apt-get install chromium), or "
    "let Playwright bring its own: python -m playwright install chromium."
)
# A name of somebody else's, which leads to this machine as a rebound one does.
ELSEWHERE = "evil.test"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
]  # fmt: skip
# A cold start imports torch beside everything else that a test machine does.
START_S = 180
# A whole small run, while something else takes up both cores.
PATIENCE_MS = 180_000
ACTION_MS = 20_000

# What Gradio itself says when a page with a request under way is left or reloaded.
LEFT = ("AbortError", "Connection errored out")

# Quick on two cores: no held-out figures, no looks.
SMALL_RUN = ("--method", "dpo", "--dataset", "starter", "--limit", "8", "--held-out", "0", "--epochs", "1",
             "--max-length", "128", "--looks", "0")  # fmt: skip


@dataclass
class App:
    """A running playground: where it answers and where it keeps its things."""

    url: str
    home: Path
    process: subprocess.Popen[str]

    def engine(self) -> psutil.Process:
        """The process that owns the weights: of the app's children the largest."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return max(children, key=lambda child: child.memory_info().rss)


def environment(home: Path) -> dict[str, str]:
    keys = ("HUGGINGFACE_TOKEN", "HF_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL")
    # On a machine that does other things too, threads that wait for each other cost more than they bring.
    own = {"PLAYGROUND_HOME": str(home), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    return os.environ | dict.fromkeys(keys, "") | own


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, shared_starter_dir: Path) -> Path:
    """A home of its own that shares the starter model."""
    home = tmp_path_factory.mktemp("home")
    link = home / "models" / "base" / paths.STARTER_NAME
    link.parent.mkdir(parents=True)
    link.symlink_to(shared_starter_dir)
    return home


@pytest.fixture(scope="session")
def app(home: Path) -> Iterator[App]:
    command = [sys.executable, "playground.py", "--no-browser", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=paths.PROJECT_ROOT, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        yield App(_url_of(process), home, process)
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=40)
        if process.poll() is None:
            process.kill()


def _url_of(process: subprocess.Popen[str]) -> str:
    """The URL that the app prints once it answers; what it says afterwards is read and dropped."""
    lines: SimpleQueue[str] = SimpleQueue()
    assert process.stdout is not None
    threading.Thread(target=lambda out: [lines.put(line) for line in out], args=(process.stdout,), daemon=True).start()
    said = ""
    while not (found := re.search(r"http://[\w.]+:\d+/", said)):
        try:
            said += lines.get(timeout=START_S)
        except Empty:
            break
        if process.poll() is not None and lines.empty():
            break
    assert found, f"the app did not say where it answers, but:\n{said}"
    return found[0]


@pytest.fixture(scope="session")
def trained(home: Path) -> str:
    """The name of a small finished run in the app's home, trained from the command line."""
    command = [sys.executable, "playground.py", "train", *SMALL_RUN, "--run", "e2e-small", "--json"]
    done = subprocess.run(command, cwd=paths.PROJECT_ROOT, env=environment(home), capture_output=True, text=True,
                          timeout=600, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout.splitlines()[-1])["run"])


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = open_browser(playwright)
        yield browser
        browser.close()


def open_browser(playwright: Playwright) -> Browser:
    if SYSTEM_BROWSER.exists():
        return playwright.chromium.launch(executable_path=SYSTEM_BROWSER, args=FLAGS)
    try:
        return playwright.chromium.launch(args=FLAGS)
    except Error:
        pytest.fail(NO_BROWSER, pytrace=False)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here; what its pages ask for elsewhere is a failure."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(ACTION_MS)
    elsewhere: list[str] = []
    errors: list[str] = []
    context.on("request", lambda asked: _is_here(asked.url) or elsewhere.append(asked.url))
    context.on("console", lambda line: line.type != "error" or _is_of_leaving(line.text) or errors.append(line.text))
    context.on("weberror", lambda thrown: errors.append(str(thrown.error)))
    yield context
    context.close()
    assert elsewhere == []
    assert errors == []


def _is_here(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:"))


def _is_of_leaving(text: str) -> bool:
    return any(words in text for words in LEFT)


@pytest.fixture
def page(app: App, context: BrowserContext) -> Page:
    """The playground as a first visitor finds it, with its model loaded."""
    page = context.new_page()
    open_playground(app, page)
    return page


def open_playground(app: App, page: Page) -> None:
    page.goto(app.url)
    page.wait_for_selector("#engine strong")
