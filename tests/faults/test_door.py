"""Whoever comes to the page's door with what is not theirs: refused in a sentence, and nothing has happened."""

import contextlib
import errno
import html
import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from core import cli, history, paths, runs
from core.compare import list_comparisons
from core.errors import RequestError
from core.runs import RunStatus
from core.settings import Method
from core.ui import app, guard
from tests.faults.door import Endpoints, Page, look, multipart, multipart_type, opened, until
from tests.ui.fake_talker import FakeTalker, StrictTalker, make_adapter

TOKEN = "a-token-of-ours_0123456789"
# Nobody has these numbers in mind.
NO_NUMBERS = [float("nan"), float("inf"), None, "abc", "1e309", 1e308, -1, [1, 2], {"a": 1}, "../../etc/passwd", True]


@pytest.fixture(scope="module")
def client() -> FakeTalker:
    return StrictTalker()


@pytest.fixture(scope="module")
def shared(client: FakeTalker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_HOME", str(tmp_path_factory.mktemp("home")))
        # What lies beside the uploads is nobody else's, so that a file there is seen.
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        with opened(client) as page:
            yield page


@pytest.fixture
def page(shared: Page, client: FakeTalker, monkeypatch: pytest.MonkeyPatch) -> Page:
    paths.ensure_home()
    # Another page of these tests may have been opened since, and would be looked into instead.
    monkeypatch.setenv("GRADIO_TEMP_DIR", shared.uploads)
    client.asked.clear()
    client.on_word = lambda: None
    return shared


@pytest.fixture
def endpoints(page: Page) -> Endpoints:
    return Endpoints(page)


def uploads() -> set[Path]:
    from gradio.utils import get_upload_folder

    return {path for path in Path(get_upload_folder()).rglob("*") if path.is_file()}


def started(client: FakeTalker) -> list[str]:
    """What was begun, of all that costs something."""
    return [asked[0] for asked in client.asked if asked[0] in ("start_run", "resume_run", "load_base", "merge")]


# Who asks


def test_002_another_page_of_this_machine_cannot_even_read_the_first_page(page):
    for origin in ("http://localhost:1", "http://evil.com", "null"):
        answer = page.ask("/", {"Origin": origin, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"})
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers or "gradio" not in answer.body


def test_002_no_page_shows_ours_in_a_frame_to_have_its_buttons_clicked(page):
    framed = page.ask("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"})
    assert framed.status == 403
    own = page.ask("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"})
    assert (own.status, own.headers["x-frame-options"]) == (200, "DENY")


def test_003_a_form_of_another_page_leaves_nothing_on_the_disk(page):
    before = uploads()
    for headers in ({"Origin": "http://evil.com"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert page.upload("pairs.jsonl", b"{}", headers).status == 403
    assert uploads() == before


def test_007_a_busy_port_gives_way_and_the_origin_follows_it(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        with opened(client, port=busy) as page:
            assert int(page.authority.rpartition(":")[2]) > busy
            assert page.ask("/config", {"Origin": page.url}).status == 200
            assert page.ask("/config", {"Origin": f"http://127.0.0.1:{busy}"}).status == 403


# The token


@pytest.fixture(scope="module")
def private(client: FakeTalker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_HOME", str(tmp_path_factory.mktemp("private")))
        with opened(client, door=guard.Door(token=TOKEN)) as page:
            yield page


@pytest.fixture
def locked(private: Page) -> Page:
    private.cookie = ""
    return private


@pytest.mark.parametrize("path", [
    "/", "/config", "/theme.css", "/gradio_api/info", "/gradio_api/upload", "/gradio_api/queue/join",
    "/gradio_api/queue/data?session_hash=a", "/gradio_api/startup-events", "/gradio_api/file=/etc/hostname",
    "/gradio_api/heartbeat/a", "/?token=", f"/?token={TOKEN[:-1]}", f"/?token={TOKEN.upper()}",
    f"/config?token={TOKEN}",
])  # fmt: skip
def test_001_with_a_token_every_route_asks_for_it(locked, path):
    for cookie in ("", "playground=1", f"playground-{locked.authority[-4:]}={TOKEN}x", "\x7f=;;"):
        locked.cookie = cookie
        answer = locked.ask(path)
        assert (answer.status, answer.body) == (401, guard.NO_TOKEN)
    assert locked.ask(path, body=b"{}").status == 401


def test_001_opening_the_printed_address_once_is_enough(locked, client):
    welcome = locked.ask(f"/?token={TOKEN}")
    assert "url=/" in welcome.body
    [(name, cookie)] = SimpleCookie(welcome.headers["set-cookie"]).items()
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    locked.cookie = f"{name}={cookie.value}"
    assert locked.ask("/").status == 200
    assert Endpoints(locked).all
    assert locked.ask("/config", {"Origin": "http://evil.com"}).status == 403


@pytest.mark.parametrize("foreign", [
    'prefs={"a":"b"}', "a[b]=1", "x=a b", "flag", "n=Jürgen", "path=/", "expires=1", "=", "",
])  # fmt: skip
def test_001_a_cookie_of_another_program_does_not_shut_the_owner_out(locked, foreign):
    own = f"playground-{locked.authority.rpartition(':')[2]}={TOKEN}"
    for cookie in (f"{foreign}; {own}", f"{own}; {foreign}", f"{foreign};{own};{foreign}"):
        locked.cookie = cookie
        assert locked.ask("/config").status == 200, cookie


@pytest.mark.parametrize(("header", "value"), [
    ("X-Forwarded-Host", "evil.com"), ("X-Forwarded-Proto", "https"), ("x-gradio-server", "http://evil.com"),
    ("Forwarded", "host=evil.com"), ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Prefix", "/evil"),
])  # fmt: skip
def test_001_the_page_takes_its_address_from_no_proxy(page, header, value):
    for path in ("/", "/config"):
        said = page.ask(path, {header: value})
        assert said.status == 200
        assert "evil" not in said.body
        assert f"https://{page.authority}" not in said.body
    assert json.loads(said.body)["root"] == page.url


def test_005_the_network_is_let_in_only_with_a_token_and_by_its_addresses():
    everywhere = guard.Door(guard.EVERYWHERE, TOKEN)
    named = {host: everywhere.is_named(host) for host in ("192.168.1.7:7860", "evil.com", "127.0.0.1.evil.com", "1.2")}
    assert named == {"192.168.1.7:7860": True, "evil.com": False, "127.0.0.1.evil.com": False, "1.2": False}
    assert not guard.Door().is_named("192.168.1.7:7860")


@pytest.mark.parametrize("leads", ["elsewhere", "nowhere else", "nowhere"])
def test_005_other_machines_are_given_an_address_that_reaches_this_one(monkeypatch, capsys, looked_up_hosts, leads):
    class Unconnected(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    class Closed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    if leads != "elsewhere":
        monkeypatch.setattr(socket, "socket", Unconnected)
        link = [SimpleNamespace(family=socket.AF_INET, address=address) for address in ("127.0.0.1", "10.1.2.3")]
        monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"lo": link[:1], "eth0": link[1:] * (leads != "nowhere")})
    own, demo = guard.own_address(), SimpleNamespace(close=lambda verbose: None)
    monkeypatch.setattr(app, "open_page", lambda *_: ("http://127.0.0.1:7861/", demo))
    monkeypatch.setattr(app.threading, "Event", Closed)
    door = guard.Door(guard.EVERYWHERE, TOKEN)
    app.serve(FakeTalker(), guard.EVERYWHERE, 7860, False, lambda url: None, door)
    assert f"From other machines: http://{own}:7861/?token={TOKEN}\n" in capsys.readouterr().out
    assert own == {"nowhere else": "10.1.2.3", "nowhere": socket.gethostname()}.get(leads, own)
    assert door.is_named(f"{own}:7861".lower())
    assert not own.startswith("127.")
    assert looked_up_hosts == []


@pytest.mark.parametrize(("arguments", "words"), [
    (["--host", "0.0.0.0"], "lets other machines in, and then the page asks for a token: add --token."),
    (["--host", "192.168.1.7"], "lets other machines in, and then the page asks for a token: add --token."),
    (["--host", "evil\x1b[2J", "--token"], "is no address of this machine"),
    (["--host", "198.51.100.7", "--token"], "'198.51.100.7' is no address of this machine"),
    (["--token", "short"], "--token takes at least 16 characters"),
    (["--token", "with space and & more"], "--token takes at least 16 characters"),
])  # fmt: skip
def test_005_a_door_that_would_stand_open_is_refused_in_a_sentence(monkeypatch, capsys, arguments, words):
    class Idle(FakeTalker):
        start = close = lambda self: None

    monkeypatch.setattr(app, "EngineClient", Idle)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    assert cli.main([*arguments, "--no-browser"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "\x1b" not in said
    assert said.count("\n") == 1


def test_001_a_token_that_is_made_up_cannot_be_guessed():
    assert len({guard.checked_token("") for _ in range(100)}) == 100
    assert min(len(guard.checked_token("")) for _ in range(100)) >= 40
    with pytest.raises(RequestError):
        guard.checked_token("é" * 20)


def test_006_a_proxy_for_everything_does_not_stand_between_the_page_and_itself(client, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks5://proxy.invalid:1080")
    with opened(client) as page:
        assert page.ask("/config").status == 200
        assert os.environ["ALL_PROXY"] == "socks5://proxy.invalid:1080"
        assert "NO_PROXY" not in os.environ


# How much


def test_009_a_file_over_the_limit_leaves_no_part_of_itself(page):
    before = uploads()
    assert page.upload("large.jsonl", b"x" * (guard.MAX_BODY_BYTES + 1000)).status == 413
    assert uploads() == before
    kept = page.upload("small.jsonl", b"x")
    assert kept.status == 200


# Files

OUTSIDE = [
    "/etc/hostname", "/etc/passwd", "//etc/hostname", "../../../etc/hostname", "..%2f..%2fetc/hostname",
    "%2e%2e/%2e%2e/etc/hostname", "..\\..\\etc\\hostname", "/proc/self/environ", "/proc/self/cmdline", "/dev/zero",
    "{project}/.env", "{project}/.ENV", "{project}/./.env", "{project}/core/../.env", "{project}/playground.py",
    "{project}/core/cli.py", "{home}/models/logs/page.log", "{home}/models/logs", "{home}/models/app.lock",
    "{home}/models/finetuned/mine/status.json", "{home}/models/finetuned/mine/run.yaml", "{home}/models/base",
    "~/.ssh/id_rsa", "file:///etc/hostname", "{uploads}/../secret.txt", "{uploads}/..%2fsecret.txt",
    "http://127.0.0.1:1/", "HTTPS://198.51.100.1/x", "http:/198.51.100.1/x", "{uploads}\x00/etc/hostname",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("route", ["/gradio_api/file={}", "/gradio_api/file/{}", "/gradio_api/proxy={}"])
def test_011_no_file_of_this_machine_is_served(page, own_home, route, path, looked_up_hosts):
    from urllib.parse import quote

    from gradio.utils import get_upload_folder

    runs.create(Method.DPO, "mine")
    (own_home / "models" / "logs" / "page.log").write_text("treasure")
    named = path.format(project=paths.PROJECT_ROOT, home=own_home, uploads=get_upload_folder())
    answer = page.ask(quote(route.format(named), safe="/=%:\\~."))
    assert answer.status in (400, 403, 404)
    assert "treasure" not in answer.body
    assert looked_up_hosts == []


@pytest.mark.parametrize("path", ["/etc/hostname", "http://198.51.100.1/x.jsonl", "../../etc/hostname", "", "{home}/x"])
def test_012_a_file_that_was_not_uploaded_is_refused(page, endpoints, client, own_home, looked_up_hosts, path):
    (own_home / "x").write_text("secret")
    named = path.format(home=own_home)
    for told in ({"path": named}, {"path": named, "url": named}, {"path": "a", "url": named}, named, [named]):
        for meta in ({"meta": {"_type": "gradio.FileData"}}, {}):
            file = told | meta if isinstance(told, dict) else told
            outcome = endpoints.call("start", file=file)
            assert outcome.sentence, (file, outcome)
            assert "secret" not in str(outcome)
    assert started(client) == []
    assert looked_up_hosts == []


@pytest.mark.parametrize("name", [
    "../../x", "..\\..\\x", "/etc/cron.d/x", "CON", "con.jsonl", "NUL", "a\x00b", "x" * 300 + ".jsonl", "\u202egnp.exe",
    "", ".", "..", ".env", "<img src=x onerror=alert(1)>", "a\nb", "$(touch x)", "%2e%2e%2fx",
])  # fmt: skip
def test_013_an_upload_s_name_leads_nowhere(page, name):
    from gradio.utils import get_upload_folder

    folder = Path(get_upload_folder())
    before = set(folder.parent.glob("*"))
    answer = page.ask("/gradio_api/upload", multipart_type(), multipart(name.replace('"', ""), b"{}"))
    assert answer.status in (200, 400)
    assert set(folder.parent.glob("*")) == before
    assert [path for path in uploads() if not path.resolve().is_relative_to(folder)] == []


@pytest.mark.parametrize("name", ["../x", "/etc", "", "ünïcode", "a\x00", "x" * 1_000_000, "<b>x</b>", "$(id)", "con"])
def test_014_a_name_from_outside_is_no_path(page, endpoints, name):
    runs.create(Method.DPO, "mine")
    picked = {"index": [0, 0], "row_value": ["mine"], "value": "mine"}
    page.call(endpoints.of("history", "select")["id"], [None], "renaming", event_data=picked)
    outcome = endpoints.call("rename-run", "renaming", **{"run-name": name})
    assert outcome.sentence
    assert len(outcome.sentence) < 500
    assert "<b>" not in outcome.sentence
    assert [run.name for run in runs.list_runs()] == ["mine"]


# Values


@pytest.mark.parametrize("field", ["setting-learning_rate", "setting-lora_rank", "setting-beta", "setting-epochs",
                                   "setting-seed", "setting-max_length", "limit", "split-seed"])  # fmt: skip
def test_017_a_number_that_is_none_starts_nothing_and_says_which(page, endpoints, field, refusing):
    for value in NO_NUMBERS:
        if (field, value) in (("limit", 1e308), ("split-seed", True), ("limit", True), ("setting-seed", True)):
            continue
        outcome = endpoints.call("start", **{field: value})
        assert outcome.sentence, (field, value, outcome)
        assert refusing == [], (field, value)


def test_017_nothing_at_all_in_every_field_of_every_event_is_no_surprise(page, endpoints):
    events = [event for event in endpoints.all if event["inputs"]]
    assert len(events) > 50
    chosen = [event for event in events if "select" in endpoints.name(event)]
    for event, row in [(event, ["x"]) for event in events] + list(product(chosen, ([], None))):
        picked = {"index": [0, 0], "row_value": row, "value": "x"}
        outcome = page.call(event["id"], [None] * len(event["inputs"]), event_data=picked)
        assert outcome.is_done or outcome.sentence, (endpoints.name(event), outcome)
        assert "The page met an error of its own" not in outcome.sentence, endpoints.name(event)


def test_017_a_text_that_nobody_touched_is_empty(page, endpoints):
    assert (
        "Write a name for your set first." in endpoints.call("compare-save-set", **{"compare-set-name": None}).sentence
    )
    assert endpoints.call("chat-send", **{"chat-message": None}).is_done


@pytest.fixture
def refusing(client, monkeypatch) -> list[object]:
    """Requests whose settings hold: what the engine itself checks first."""
    from core.settings import Settings, Size

    held: list[object] = []

    def check(request) -> str:
        Settings.of(Method(request.method), Size.SMALL, request.settings)
        held.append(request)
        return "dpo-1"

    monkeypatch.setattr(client, "start_run", check, raising=False)
    return held


def test_018_a_choice_that_is_gone_is_named(page, endpoints, client):
    make_adapter("mine")
    for chosen in ("gone", "", None, "../mine", ["mine"], {"a": 1}, 7):
        said = {"chat-message": "Hello", "chat-adapter": chosen, "chat-shown": "tuned"}
        assert endpoints.call("chat-send", **said).sentence, chosen
    assert client.streamed == []


@pytest.mark.parametrize(("button", "fields"), [
    ("chat-send", {"chat-message": "Hello", "chat-shown": "tuned", "chat-adapter": "mine"}),
    ("compare-start", {"compare-adapter": "mine"}),
    ("start", {"from-adapter": "mine"}),
])  # fmt: skip
def test_018_an_adapter_deleted_since_the_list_was_shown_is_named_and_nothing_begins(
    page, endpoints, client, button, fields
):
    session = secrets.token_hex(6)
    make_adapter("mine")
    make_adapter("other")
    assert "mine" in look(page, session)
    known = {"train-model": paths.STARTER_NAME, "from-adapter": ""}
    offer = next(event for event in endpoints.all if [endpoints.label(n) for n in event["inputs"]] == list(known))
    assert "mine" in str(page.call(offer["id"], endpoints.values(offer, **known), session))
    shutil.rmtree(paths.run_dir("mine"))
    assert "No adapter named 'mine'. There are: other." in html.unescape(
        endpoints.call(button, session, **fields).sentence
    )
    assert ([run.name for run in runs.list_runs()], list_comparisons()) == (["other"], [])
    assert (client.streamed, client.answered, started(client)) == ([], [], [])


@pytest.mark.parametrize("value", ["nothing", "", None, 7, ["tuned"], {"a": 1}])
def test_018_a_button_that_does_not_exist_is_refused(page, endpoints, client, value):
    assert endpoints.call("chat-send", **{"chat-message": "Hello", "chat-shown": value}).sentence
    assert client.streamed == []


def test_019_too_few_or_too_many_values_are_a_sentence(page, endpoints, client, capfd):
    event = endpoints.of("start")
    for data in ([], [None], endpoints.values(event)[:-1], [*endpoints.values(event), "more"], ["x"] * 500):
        outcome = page.call(event["id"], data)
        assert outcome.is_done or outcome.sentence, (len(data), outcome)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("path", "body"), [
    ("/gradio_api/queue/join", {"data": [], "fn_index": 99_999, "session_hash": "a"}),
    ("/gradio_api/queue/join", {"data": [], "fn_index": -1, "session_hash": "a"}),
    ("/gradio_api/queue/join", {"data": [], "fn_index": None, "session_hash": "a"}),
    ("/gradio_api/queue/join", {"data": [], "fn_index": 1}),
    ("/gradio_api/queue/join", [1, 2]),
    ("/gradio_api/call/nothing", {"data": []}),
    ("/gradio_api/run/nothing", {"data": []}),
    ("/gradio_api/run/predict", {"data": [], "fn_index": 99_999}),
    ("/gradio_api/component_server", {"data": 1, "component_id": 99_999, "session_hash": "a", "fn_name": "__init__"}),
    ("/gradio_api/component_server", {"data": 1, "component_id": 1, "session_hash": "a", "fn_name": "preprocess"}),
    ("/gradio_api/cancel", {"session_hash": "a", "fn_index": 1, "event_id": "x"}),
    ("/gradio_api/vibe-edit", {"prompt": "x"}),
    ("/gradio_api/run-history/connect", {}),
])  # fmt: skip
def test_019_what_is_no_event_of_the_page_is_refused_in_a_sentence(page, path, body, capfd):
    answer = page.post(path, body)
    assert answer.status < 500 or "page.log" in answer.body, answer
    assert "Traceback" not in answer.body + "".join(capfd.readouterr())


def test_019_what_makes_gradio_itself_stumble_is_a_sentence_with_a_number(page, caplog):
    answer = page.post("/gradio_api/component_server", {"data": 1, "component_id": 99_999, "session_hash": "a",
                                                        "fn_name": "x"})  # fmt: skip
    assert answer.status == 500
    assert answer.body.startswith("The page met an error of its own and changed nothing.")
    assert answer.body.split("under ")[1].rstrip(".") in caplog.text


# Text is text


def test_020_a_name_cannot_command_a_terminal(own_home, monkeypatch, capsys):
    hostile = "\x1b[2J\x1b]0;owned\x07data\x9b31m\u202e.jsonl\udcff\nnext"
    runs.create(Method.DPO, "mine", dataset=hostile)
    assert cli.main(["runs"]) == 0
    assert cli.main(["runs", "--json"]) == 0
    assert cli.main(["train", "--method", "dpo", "--dataset", f"/no/{hostile}"]) == 2
    said = "".join(capsys.readouterr())
    assert "data" in said
    assert [c for c in said if not (c.isprintable() or c == "\n")] == []


# Much at once


def test_023_a_closed_tab_ends_the_response_and_the_next_one_is_answered(page, endpoints, client):
    send = endpoints.of("chat-send")
    said, closed, gate = threading.Event(), client.num_closed, threading.Event()

    def on_word() -> None:
        said.set()
        gate.wait(0.02)

    client.on_word = on_word
    long = "word " * 3000
    values = endpoints.values(send, **{"chat-message": long, "chat-shown": "base"})
    assert page.join(send["id"], values, "leaving").status == 200
    with contextlib.closing(page.listen("leaving")) as messages:
        assert next(messages)
        assert said.wait(10)
    until(lambda: client.num_closed > closed, 4, "the end of the response")
    client.on_word = lambda: None
    assert endpoints.call("chat-send", **{"chat-message": "Hi", "chat-shown": "base"}).is_done


def test_025_sixty_requests_at_once_are_served_or_told_to_wait(page, endpoints, client):
    send = endpoints.of("chat-send")
    gate = threading.Event()
    client.on_word = gate.wait
    values = endpoints.values(send, **{"chat-message": "Hi", "chat-shown": "base"})
    before = psutil.Process().memory_info().rss
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda n: page.join(send["id"], values, f"s{n}"), range(70)))
    gate.set()
    refused = [answer for answer in answers if answer.status != 200]
    assert {answer.status for answer in refused} == {503}
    assert all("Queue is full" in answer.body for answer in refused)
    for number, answer in enumerate(answers):
        assert answer.status == 503 or page.outcome(f"s{number}").is_done
    assert psutil.Process().memory_info().rss - before < 100e6


# On the disk


def test_028_what_is_kept_is_for_its_owner_alone(page, own_home):
    assert page.upload("pairs.jsonl", b"{}").status == 200
    make_adapter("mine")
    runs.log("mine", "started")
    folders = [own_home / "models" / name for name in ("base", "finetuned", "logs", "prompts", "merged")]
    from gradio.utils import get_upload_folder

    assert [oct(path.stat().st_mode & 0o077) for path in [*folders, Path(get_upload_folder())]] == ["0o0"] * 6


def test_030_a_home_that_cannot_be_written_ends_the_start_with_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "file"))
    assert cli.main(["--no-browser"]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"{tmp_path}/file/models/base cannot be written (Not a directory). Make it writable, or set PLAYGROUND_HOME "
        "to a folder of yours.\n"
    )


def test_031_the_hour_that_a_clock_goes_through_twice_is_in_order():
    """When summer ends: 02:30 of summer time, then 02:10 of winter time, forty minutes later."""
    times = {"first": "2026-10-25T02:30:00+02:00", "second": "2026-10-25T02:10:00+01:00", "damaged": "long ago"}
    for name, created_at in times.items():
        runs.write(runs.create(Method.DPO, name), created_at=created_at)
    assert [run.name for run in runs.list_runs()] == ["second", "first", "damaged"]


def test_031_a_clock_that_is_set_does_not_end_a_run_that_goes_on(monkeypatch):
    runs.write(runs.create(Method.DPO, "mine"), status=RunStatus.RUNNING)
    # What the system says of its own start follows its clock, and of every process's start too.
    stock = psutil._psplatform.boot_time
    for shift in (-3600, 3600):
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda shift=shift: stock() + shift)
        assert runs.read_run("mine").status is RunStatus.RUNNING
        with pytest.raises(RequestError, match="The run 'mine' is going on"):
            history.delete("mine")


def test_031_a_clock_set_back_gives_no_negative_time(monkeypatch):
    run = runs.create(Method.DPO, "mine")
    monkeypatch.setattr(runs, "now", lambda: "2001-01-01T00:00:00+00:00")
    again = runs.write(run, train_s=3.0)
    assert again.updated_at < again.created_at
    assert [run.name for run in runs.list_runs()] == ["mine"]


def test_086_a_run_that_goes_on_cannot_be_deleted_from_outside_and_another_can(page, endpoints):
    runs.write(runs.create(Method.DPO, "goes-on"), status=RunStatus.RUNNING)
    runs.write(runs.create(Method.DPO, "done"), status=RunStatus.FINISHED)
    folder = paths.run_dir("goes-on")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def ask(name: str) -> tuple[str, str]:
        """As the page asks, and straight past its question."""
        picked = {"index": [0, 0], "row_value": [name], "value": name}
        page.call(endpoints.of("history", "select")["id"], [None], name, event_data=picked)
        asked, really = (endpoints.of(button) for button in ("delete-run", "really-delete"))
        return tuple(page.call(event["id"], endpoints.values(event), name).sentence for event in (asked, really))

    for said in ask("goes-on"):
        assert "The run 'goes-on' is going on. Stop it, or wait until it is done." in html.unescape(said)
    assert ask("done") == ("", "")
    assert [(run.name, run.status) for run in runs.list_runs()] == [("goes-on", RunStatus.RUNNING)]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_020_half_a_character_in_the_data_costs_a_mark_and_not_the_answer(page, endpoints, client):
    assert endpoints.call("chat-send", **{"chat-message": "half \ud83d"}).sentence
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.ui.fake_talker.words_of", lambda turn: ["half", "\ud83d", "said"])
        assert endpoints.call("chat-send", **{"chat-message": "Hello", "chat-shown": "base"}).is_done
