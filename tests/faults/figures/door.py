"""What the page's door lets through, what its events make of values that no field has, and whether a key gets out."""

import atexit
import contextlib
import io
import json
import logging
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from core import catalogue, redact
from core.compare import Comparison, list_comparisons
from core.export import write_csv
from core.settings import JUDGE, TRAINING, Setting
from core.ui import app
from tests.fake_gemini import Asked, FakeGemini, Reply, refusal, saying, verdict
from tests.faults.door import Answer, Endpoints, Outcome, Page, look, multipart, multipart_type, opened, until
from tests.faults.figures.figure import Figure, Tried
from tests.faults.real_app import at_home
from tests.ui.fake_talker import FakeTalker, StrictTalker, make_adapter

# The page in this process, once for all figures


@cache
def _opened() -> tuple[Page, FakeTalker, Path]:
    """The page before a client that remembers, and its home."""
    home, stack, client = Path(tempfile.mkdtemp(prefix="door-")), contextlib.ExitStack(), StrictTalker()
    with at_home(home):
        page = stack.enter_context(opened(client))
    atexit.register(stack.close)
    return page, client, home


@cache
def _endpoints() -> Endpoints:
    return Endpoints(_opened()[0])


# Hostile requests: 25 ways to come from elsewhere, 7 ways in

HOSTS = (
    "evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "192.168.1.7", "127.0.0.1:x", "[::1]", "evil.com@127.0.0.1",
    "127.0.0.1, evil.com", "",
)  # fmt: skip
ORIGINS = (
    "http://evil.com", "null", "http://localhost:1", "https://127.0.0.1", "file://", "http://127.0.0.1.evil.com",
    "http://evil.com@127.0.0.1", "", "http://[", "chrome-extension://abc",
)  # fmt: skip
SITES = ("cross-site", "same-site", "Cross-Site", "cross-site, none", "navigate", "")
HOSTILE: tuple[dict[str, str], ...] = (
    *({"Host": host} for host in HOSTS), *({"Origin": origin} for origin in ORIGINS),
    *({"Sec-Fetch-Site": site} for site in SITES),
)  # fmt: skip


@cache
def _uploaded() -> str:
    """The path of a file that the page itself may read."""
    found: str = json.loads(_opened()[0].upload("mine.txt", b"mine").body)[0]
    return found


def _join(page: Page, headers: dict[str, str]) -> Answer:
    asked = {"data": [], "fn_index": _endpoints().of("chat-send")["id"], "session_hash": "hostile"}
    return page.post("/gradio_api/queue/join", asked, headers)


ROUTES: tuple[Callable[[Page, dict[str, str]], Answer], ...] = (
    lambda page, headers: page.ask("/config", headers),
    _join,
    lambda page, headers: page.ask("/gradio_api/queue/data?session_hash=hostile", headers),
    lambda page, headers: page.ask("/gradio_api/heartbeat/hostile", headers),
    lambda page, headers: page.ask("/gradio_api/upload", multipart_type() | headers, multipart("a.txt", b"a")),
    lambda page, headers: page.ask(f"/gradio_api/file={_uploaded()}", headers),
    lambda page, headers: page.post("/gradio_api/call/predict", {"data": []}, headers),
)
# What nobody is let to, the page itself neither: files of this machine, addresses to fetch, bodies without an end.
CLOSED: tuple[tuple[str, dict[str, str]], ...] = (
    *((f"/gradio_api/file={path}", {}) for path in ("/etc/hostname", "//etc/hostname", "/proc/self/environ")),
    *((f"/gradio_api/file={url}", {}) for url in ("http://127.0.0.1:1/", "HTTPS://198.51.100.1/x")),
    ("/gradio_api/proxy=http://127.0.0.1:1/", {}), ("/gradio_api/upload", {"Transfer-Encoding": "chunked"}),
    ("/gradio_api/upload", {"Content-Length": str(10**9)}), ("/gradio_api/queue/join", {"Content-Length": str(10**9)}),
)  # fmt: skip
REFUSED = (400, 403)
BARRED = (403, 411, 413)
NUM_HOSTILE = len(HOSTILE) * len(ROUTES) + len(CLOSED)


def come_from_elsewhere(seed: int) -> Tried:
    """One way in, all ways to come from elsewhere."""
    page, client, _ = _opened()
    if seed == len(ROUTES):
        return _knock(page)
    route, heard, wrong = ROUTES[seed % len(ROUTES)], len(client.asked), []
    for headers in HOSTILE:
        answer = route(page, headers)
        if answer.status not in REFUSED:
            wrong.append(f"{headers} got {answer.status} on way {seed % len(ROUTES)}")
    if len(client.asked) > heard:
        wrong.append(f"the client was asked {client.asked[heard:]}")
    return Tried(len(HOSTILE), tuple(wrong))


def _knock(page: Page) -> Tried:
    """As the page itself, on what is closed."""
    wrong = []
    for path, headers in CLOSED:
        answer = page.ask(path, headers, method="POST" if headers else "GET")
        if answer.status not in BARRED:
            wrong.append(f"{path} with {headers} got {answer.status}")
    return Tried(len(CLOSED), tuple(wrong))


# Values that no field has

FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
VALUES: tuple[Any, ...] = (
    float("nan"), float("inf"), -float("inf"), None, "", "abc", "NaN", "1e309", 1e308, 10**400, -1, True, [], [[None]],
    {}, FILE, [FILE], {"path": "http://198.51.100.1/x", "meta": {"_type": "gradio.FileData"}},
    {"__type__": "update", "value": 1}, "../../etc/passwd", "/etc/passwd", "http://198.51.100.1/x", "\x00", "\ud800",
    "x" * 100_000, "<img src=x onerror=alert(1)>",
)  # fmt: skip
COSTLY = ("start_run", "resume_run", "load_base", "merge")
SURPRISE = "The page met an error of its own"


@cache
def _fed() -> list[tuple[dict[str, Any], int | None]]:
    """Every event that takes something, with all its fields at once (None) and with each alone, in one mixed order;
    what can begin a run comes first, and its sliders before the rest."""
    fed = [(event, field) for event in _endpoints().all if event["inputs"]
           for field in (None, *range(len(event["inputs"])))]  # fmt: skip
    random.Random(0).shuffle(fed)
    return sorted(fed, key=lambda one: -_is_dear(*one))


def _is_dear(event: dict[str, Any], field: int | None) -> int:
    """2 for a slider of what begins a run, 1 for the rest of that, 0 for all else."""
    if event["id"] != _endpoints().of("start")["id"]:
        return 0
    return 1 + (field is not None and _endpoints().parts[event["inputs"][field]]["type"] == "slider")


def feed(seed: int) -> Tried:
    """One event, or one field of it, and every value."""
    page, client, home = _opened()
    event, field = _fed()[seed % len(_fed())]
    wrong: list[str] = []
    with at_home(home), contextlib.redirect_stderr(io.StringIO()) as printed:
        for value in VALUES:
            heard = len(client.asked)
            data = _endpoints().values(event)
            data = [value] * len(data) if field is None else [*data[:field], value, *data[field + 1 :]]
            if why := _unexplained(page.call(event["id"], data)):
                wrong.append(f"{_endpoints().name(event)}, field {field}, {str(value)[:40]!r}: {why}")
            begun = [asked for asked in client.asked[heard:] if asked[0] in COSTLY]
            if begun and (field is None or any(_is_hurt(asked) for asked in begun)):
                wrong.append(f"{_endpoints().name(event)}, field {field}, {str(value)[:40]!r}: {begun}"[:300])
    if "Traceback" in printed.getvalue():
        wrong.append(f"{_endpoints().name(event)}: a traceback, {printed.getvalue()[-300:]}")
    return Tried(len(VALUES), tuple(wrong))


def _is_hurt(asked: tuple[Any, ...]) -> bool:
    """Whether a run was begun with a number that its field cannot show; the rate's field holds a text."""
    given = vars(asked[1])["settings"] if asked[0] == "start_run" else {}
    return any(not _is_shown(TRAINING[name], value) for name, value in given.items())


def _is_shown(setting: Setting, value: Any) -> bool:
    if isinstance(setting.default, str | bool):
        return True
    try:
        return setting.low <= float(value) <= setting.high
    except (TypeError, ValueError, OverflowError):
        return False


def _unexplained(outcome: Outcome) -> str:
    if SURPRISE in outcome.sentence:
        return outcome.sentence
    return "" if outcome.is_done or outcome.sentence else "an error without a sentence"


# A key

SESSIONS = 20
TABLE = {"headers": ["Category", "Prompt"], "data": [["one", "Where is the lamp?"], ["two", "What is red?"]],
         "metadata": None}  # fmt: skip
KEYS = ("GEMINI_API_KEY", "HUGGINGFACE_TOKEN")


def _said(key: str) -> list[Callable[[Asked], Reply]]:
    """What a server may do with the key that it was sent."""
    return [
        lambda asked: verdict("RESPONSE_1", reason=f"The key {key} says so."),
        lambda asked: refusal(400, "INVALID_ARGUMENT", f"Bad request with {key}"),
        lambda asked: refusal(403, "PERMISSION_DENIED", f"{key} is not allowed"),
        lambda asked: refusal(500, "INTERNAL", f"{asked.headers}"),
        lambda asked: saying(f"not JSON, but {key}"),
    ]


@contextlib.contextmanager
def _listening() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """All that is logged or printed meanwhile, HTTP's own debugging included."""
    text, logged = io.StringIO(), io.StringIO()
    # Not where is printed: what is written there is redacted, and would be of a log that is not.
    handler, names = logging.StreamHandler(logged), ("", "httpx", "httpx2", "httpcore", "httpcore2", "google_genai")
    before, factory = {name: logging.getLogger(name).level for name in names}, logging.getLogRecordFactory()
    with contextlib.redirect_stderr(text), contextlib.redirect_stdout(text):
        redact.install()
        logging.getLogger().addHandler(handler)
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.DEBUG)
            yield (text, logged)
        finally:
            logging.getLogger().removeHandler(handler)
            logging.setLogRecordFactory(factory)
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


def use_a_key(seed: int) -> Tried:
    """A session that judges with one key, asks the Hub with the other and fails with both: is either anywhere in what
    came of it?"""
    draw = random.Random(seed)
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789"
    keys = {name: f"Canary{seed}-" + "".join(draw.choices(letters, k=30)) for name in KEYS}
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        _listening() as (printed, logged),
    ):
        home = Path(folder)
        for name, key in keys.items():
            patch.setenv(name, key)
        patch.setenv("PLAYGROUND_HOME", folder)
        for name, value in {"judge_rate_per_s": 1000.0, "judge_attempts": 1}.items():
            patch.setitem(JUDGE, name, replace(JUDGE[name], default=value))
        # What is put aside for a moment lies there.
        (home / "temporary").mkdir()
        patch.setattr(tempfile, "tempdir", str(home / "temporary"))
        judge, hub = (FakeGemini(default=draw.choice(_said(key))) for key in keys.values())
        with judge, hub:
            patch.setenv("GOOGLE_GEMINI_BASE_URL", judge.url)
            patch.setattr(constants, "ENDPOINT", hub.url)
            seen = _session(" and ".join(keys.values()))
            used = {name: key in str([asked.headers for asked in server.asked])
                    for server, (name, key) in zip((judge, hub), keys.items(), strict=True)}  # fmt: skip
        files = sorted(home.rglob("*"))
        places = {
            "page": seen,
            "printed": printed.getvalue(),
            "logged": logged.getvalue(),
            "a file's name": "\n".join(map(str, files)),
        } | {str(file.relative_to(home)): file.read_text(errors="replace") for file in files if file.is_file()}
    wrong = [f"{name} in {place}" for place, text in places.items() for name, key in keys.items() if key in text]
    return Tried(1, (*wrong, *(f"{name} was not used at all" for name, is_used in used.items() if not is_used)))


def _session(held: str) -> str:
    """Compare with the judge, export, and errors that hold what is held; all that the page was shown of it."""

    class Failing(FakeTalker):
        def preview(self, *_: Any) -> Any:
            raise RuntimeError(f"no route to https://host/?key={held}")

        def load_base(self, name: str) -> None:
            try:
                catalogue.bring(name, redact.api_key("HUGGINGFACE_TOKEN"), lambda *_: None)
            except app.PlaygroundError as error:
                raise app.PlaygroundError(f"{error} The Hub says: {held}.") from error

    client = Failing()
    with opened(client) as page:
        app.log_to_file()
        log = logging.getLogger("playground")
        try:
            adapter = make_adapter()
            endpoints, session, shown = Endpoints(page), "one", []

            def call(elem_id: str, **changed: Any) -> None:
                shown.append(str(endpoints.call(elem_id, session, **changed)))

            shown.append(look(page, session))
            call("setting-seed")
            call("model", model="Anthropic/x")
            call("compare-start", **{
                "compare-adapter": adapter, "compare-mode": "alone", "compare-table": TABLE,
                "compare-placebo_share": 0, "compare-max_new_tokens": 16,
            })  # fmt: skip
            until(lambda: "comparison" not in {thread.name for thread in threading.enumerate()}, 60, "a judgement")
            [path] = list_comparisons()
            if results := Comparison.open(path).results():
                write_csv(results.rows, path.with_suffix(".csv"))
            shown.append(look(page, session))
            call("chat-send", **{"chat-message": "Hello", "chat-shown": "base"})
            return "\n".join([*shown, page.ask("/config").body, page.ask("/").body])
        finally:
            log.handlers.pop().close()
            log.propagate = True


FIGURES = (
    Figure(
        "hostile", "hostile Host, Origin and Sec-Fetch-Site on every way in, and what is closed to all, refused",
        f"0 of {NUM_HOSTILE} accepted", NUM_HOSTILE, NUM_HOSTILE, come_from_elsewhere,
    ),
    Figure(
        "endpoints", "every event, all its fields and each alone, fed NaN, infinity, null, strings, huge numbers, "
        "lists and paths: explained, and no run started", "0 unexplained, 0 started", 10_000, 100, feed,
    ),
    Figure(
        "canary", "sessions with two keys, a judge that echoes them, errors that hold them and HTTP's debugging on, "
        "after which no log, error, page, CSV, journal or folder holds one", "0 found", SESSIONS, 1, use_a_key,
    ),
)  # fmt: skip
