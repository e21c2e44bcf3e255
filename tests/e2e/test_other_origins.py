"""A real browser on somebody else's page, which reaches for the playground in every way that a page has."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Frame, Page

from tests.e2e.conftest import ELSEWHERE, App
from tests.faults.door import Page as Door

pytestmark = pytest.mark.e2e

REFUSED = {400, 403}
SANDBOXED = '<iframe sandbox="allow-scripts" srcdoc="nobody\'s page"></iframe>'
# What a page can send without being asked about it first: no answer is wanted, only that something happens.
REACH = """async ({app, ways}) => {
    const bodyOf = path => {
        if (!path.endsWith("/upload")) return '{"data": [], "fn_index": 0, "session_hash": "hostile"}'
        const form = new FormData()
        form.append("files", new Blob(["treasure"]), "treasure.txt")
        return form
    }
    for (const [method, path] of ways)
        await fetch(app + path, {
            method, mode: "no-cors", credentials: "include", body: method == "POST" ? bodyOf(path) : undefined,
        }).catch(() => null)
}"""
PLACE = """({app, file}) => {
    const tags = [["img", "src", file], ["script", "src", "/config"], ["iframe", "src", "/?as=frame"],
                  ["link", "href", "/theme.css"]]
    for (const [tag, name, path] of tags)
        document.body.append(Object.assign(document.createElement(tag), {[name]: app + path, rel: "stylesheet"}))
    document.body.insertAdjacentHTML("beforeend", `
        <iframe name="answer"></iframe>
        <form method="post" enctype="multipart/form-data" target="answer" action="${app}/gradio_api/upload?as=form">
        <input name="files" value="treasure"></form>`)
    document.forms[0].submit()
}"""
PLACED = 5


class Attacker(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f"<body>{SANDBOXED}</body>".encode())

    def log_message(self, *_: object) -> None:
        """The terminal is the tests'."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture
def foreign(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def ways_in(app: App) -> list[tuple[str, str]]:
    mine = Door(app.url.rstrip("/")).upload("mine.txt", b"mine").body.strip('[]"\n')
    return [
        ("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/queue/data?session_hash=hostile"),
        ("GET", "/gradio_api/heartbeat/hostile"), ("POST", "/gradio_api/upload"), ("GET", f"/gradio_api/file={mine}"),
        ("POST", "/gradio_api/call/predict"),
    ]  # fmt: skip


def statuses(page: Page, app: App) -> dict[str, int]:
    """By path and method, as the app answers them while the page is there."""
    found: dict[str, int] = {}
    port = urlsplit(app.url).port

    def note(answer) -> None:
        url = urlsplit(answer.url)
        if url.port == port:
            found[f"{answer.request.method} {url.path}{'?' + url.query if url.query else ''}"] = answer.status

    page.on("response", note)
    return found


def treasures(app: App) -> list[str]:
    files = [path for path in (app.home / "models").rglob("*") if path.is_file() and path.stat().st_size < 10_000]
    return [str(path) for path in files if b"treasure" in path.read_bytes()]


def reach(frame: Frame, app: str, ways: list[tuple[str, str]]) -> None:
    frame.evaluate(REACH, {"app": app, "ways": ways})


@pytest.mark.parametrize("host", [ELSEWHERE, "localhost", "127.0.0.1", "nobody"])
def test_a_page_of_another_origin_is_let_in_nowhere(app: App, foreign: Page, port: int, host: str):
    ways, found = ways_in(app), statuses(foreign, app)
    foreign.goto(f"http://{'127.0.0.1' if host == 'nobody' else host}:{port}/")
    frame = foreign.frames[1] if host == "nobody" else foreign.main_frame
    reach(frame, app.url.rstrip("/"), ways)
    assert found.keys() == {f"{method} {path}" for method, path in ways}
    assert set(found.values()) <= REFUSED, found
    assert treasures(app) == []


def test_nor_is_what_it_places_on_itself(app: App, foreign: Page, port: int):
    ways, found = ways_in(app), statuses(foreign, app)
    foreign.goto(f"http://{ELSEWHERE}:{port}/")
    with foreign.expect_event("response", lambda _: len(found) >= PLACED):
        foreign.evaluate(PLACE, {"app": app.url.rstrip("/"), "file": ways[5][1]})
    assert set(found.values()) <= REFUSED, found
    assert treasures(app) == []


def test_a_name_that_was_pointed_at_this_machine_opens_nothing(app: App, foreign: Page):
    ways, found = ways_in(app), statuses(foreign, app)
    own = f"http://{ELSEWHERE}:{urlsplit(app.url).port}"
    assert foreign.goto(own).status == 400
    reach(foreign.main_frame, own, ways)
    assert found.keys() >= {f"{method} {path}" for method, path in ways}
    assert set(found.values()) <= REFUSED, found
    assert treasures(app) == []
