"""The real page on a free port of this process, and what can be sent to it over plain HTTP, hostile or not."""

import contextlib
import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from core import paths
from core.ui import app, guard

PATIENCE_S = 30.0
BOUNDARY = "----faults"


@dataclass(frozen=True)
class Answer:
    status: int
    body: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """What became of an event: its notices, its error's sentence where it failed, and what it came to."""

    notices: tuple[str, ...]
    error: str | None
    is_done: bool
    data: Any

    @property
    def sentence(self) -> str:
        return " ".join([*self.notices, self.error or ""]).strip()


class Page:
    """A page at `url`. Whatever is asked comes as its own browser page would send it, unless headers say otherwise."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.authority = self.url.removeprefix("http://")
        self.cookie = ""
        # Where it keeps what is sent to it, as far as that is known.
        self.uploads = ""

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None, method: str = ""
    ) -> Answer:
        """The answer to one request. Headers are sent as they are; Host is this page's own unless it is given."""
        connection = http.client.HTTPConnection(self.authority, timeout=PATIENCE_S)
        sent = {"Host": self.authority} | ({"Cookie": self.cookie} if self.cookie else {}) | dict(headers or {})
        if body is not None:
            sent |= {"Content-Length": str(len(body))}
        with contextlib.closing(connection):
            connection.putrequest(method or ("GET" if body is None else "POST"), path, True, True)
            for name, value in sent.items():
                connection.putheader(name, value.encode("utf-8"))
            connection.endheaders(body)
            got = connection.getresponse()
            # A stream that was let in has no end: `listen` is for those.
            is_endless = "event-stream" in got.headers.get("Content-Type", "")
            said = b"" if is_endless else got.read()
            return Answer(got.status, said.decode("utf-8", "replace"), dict(got.getheaders()))

    def post(self, path: str, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        # Python writes NaN and Infinity, as a hostile client would.
        kind = {"Content-Type": "application/json"}
        return self.ask(path, kind | dict(headers or {}), json.dumps(value).encode())

    def upload(self, name: str, content: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("/gradio_api/upload", multipart_type() | dict(headers or {}), multipart(name, content))

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("/config").body)
        return found

    def join(self, fn_index: int, data: list[Any], session: str, **more: Any) -> Answer:
        asked = {"data": data, "fn_index": fn_index, "session_hash": session, **more}
        return self.post("/gradio_api/queue/join", asked)

    def call(self, fn_index: int, data: list[Any], session: str = "", **more: Any) -> Outcome:
        """An event from its beginning to its end, as the page itself sends one."""
        session = session or secrets.token_hex(6)
        joined = self.join(fn_index, data, session, **more)
        if joined.status != 200:
            return Outcome((), joined.body if joined.status < 500 else None, False, None)
        return self.outcome(session)

    def outcome(self, session: str) -> Outcome:
        notices: list[str] = []
        for message in self.listen(session):
            if message["msg"] == "log":
                notices.append(str(message["log"]))
            if message["msg"] == "process_completed":
                output = message["output"] or {}
                error = None if message["success"] else output.get("error")
                return Outcome(tuple(notices), error, message["success"], output.get("data"))
        return Outcome(tuple(notices), None, False, None)

    def listen(self, session: str, patience_s: float = PATIENCE_S) -> Iterator[dict[str, Any]]:
        """The messages of a session's event stream; leaving it closes the connection, as a closed tab does."""
        connection = http.client.HTTPConnection(self.authority, timeout=patience_s)
        with contextlib.closing(connection):
            headers = {"Cookie": self.cookie} if self.cookie else {}
            connection.request("GET", f"/gradio_api/queue/data?session_hash={session}", headers=headers)
            with contextlib.closing(connection.getresponse()) as stream:
                until = time.monotonic() + patience_s
                while time.monotonic() < until and (line := stream.readline()):
                    if line.startswith(b"data: "):
                        yield json.loads(line[6:])


class Endpoints:
    """The page's events by what sets them off: what each takes, and what its fields hold to begin with."""

    def __init__(self, page: Page) -> None:
        self.page = page
        config = page.config()
        self.parts = {part["id"]: part for part in config["components"]}
        self.all = [event for event in config["dependencies"] if event["backend_fn"]]

    def of(self, elem_id: str, kind: str = "") -> dict[str, Any]:
        """The first event that the element of that id sets off, and that is not only the page's own script."""
        wanted = {n for n, part in self.parts.items() if part["props"].get("elem_id") == elem_id}
        return next(e for e in self.all if any(n in wanted and kind in (what, "") for n, what in e["targets"]))

    def name(self, event: dict[str, Any]) -> str:
        """As who: what sets it off."""
        return ", ".join(f"{self.label(n)}.{what}" for n, what in event["targets"]) or f"event {event['id']}"

    def label(self, number: int | None) -> str:
        part = self.parts.get(number or -1)
        if part is None:
            return "page"
        return str(part["props"].get("elem_id") or part["props"].get("label") or part["type"])

    def values(self, event: dict[str, Any], **changed: Any) -> list[Any]:
        """What an untouched page would send, with the fields of these element ids changed."""
        known = {self.label(n): n for n in event["inputs"]}
        assert changed.keys() <= known.keys(), changed.keys() - known.keys()
        return [changed.get(self.label(n), self.parts[n]["props"].get("value")) for n in event["inputs"]]

    def call(self, elem_id: str, session: str = "", kind: str = "", **changed: Any) -> Outcome:
        """The event that the element sets off, with these fields changed."""
        event = self.of(elem_id, kind)
        return self.page.call(event["id"], self.values(event, **changed), session)


def look(page: Page, session: str, elem_id: str = "") -> str:
    """What a page that is opened just now shows of itself, on every tab: as the session then knows it, choices too.
    With an `elem_id`, of that element alone."""
    endpoints = Endpoints(page)
    kinds = {number: part["type"] for number, part in endpoints.parts.items()}
    looks = [event for event in endpoints.all for number, what in event["targets"]
             if what in ("load", "tick") or (what == "select" and kinds.get(number) == "tabitem")]  # fmt: skip
    shown = [(event, page.call(event["id"], endpoints.values(event), session)) for event in looks]
    if not elem_id:
        return "\n".join(str(outcome) for _, outcome in shown)
    values = [pair for event, outcome in shown for pair in zip(event["outputs"], outcome.data or (), strict=False)]
    return "\n".join(str(value) for number, value in values if endpoints.label(number) == elem_id)


def until(holds: Callable[[], bool], patience_s: float, what: str) -> None:
    end, pause = time.monotonic() + patience_s, threading.Event()
    while not holds():
        assert time.monotonic() < end, f"{what} did not come"
        pause.wait(0.1)


def multipart_type() -> dict[str, str]:
    return {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def multipart(name: str, content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode("utf-8", "surrogateescape") + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextlib.contextmanager
def opened(client: Any, door: guard.Door | None = None, port: int = 0) -> Iterator[Page]:
    """The app's own page before `client`, at a home that is set; its environment is its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        patch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
        patch.setenv("GRADIO_ALLOWED_PATHS", "/")
        paths.ensure_home()
        url, demo = app.open_page(client, port=port, door=door)
        page = Page(url)
        page.uploads = os.environ["GRADIO_TEMP_DIR"]
        try:
            yield page
        finally:
            demo.close(verbose=False)
