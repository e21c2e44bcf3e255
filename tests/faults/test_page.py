"""The real app in its own process: what it listens on, what it takes from its environment, and who outlives whom."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from core import paths
from core.runs import RunStatus
from tests.fake_gemini import FakeGemini, prefers
from tests.faults import real_app
from tests.faults.real_app import RealApp, make_home, running, spawn, tiny_base, until

OPENED_WIDE = {
    "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "1", "GRADIO_SHARE": "True", "GRADIO_ALLOWED_PATHS": "/",
    "GRADIO_MCP_SERVER": "True", "GRADIO_LOCAL_DEV_MODE": "1", "GRADIO_ROOT_PATH": "/elsewhere", "GRADIO_DEBUG": "1",
    "GRADIO_SSR_MODE": "True", "GRADIO_ANALYTICS_ENABLED": "True", "GRADIO_WATCH_DIRS": "/etc", "SYSTEM": "spaces",
    "SPACE_ID": "evil/space", "FORWARDED_ALLOW_IPS": "*", "GRADIO_NUM_WORKERS": "2", "GRADIO_VIBE_MODE": "1",
}  # fmt: skip


A_MACS_LIMIT = 256
PRIVATE, LOGS = ("finetuned", "logs", "prompts", "merged"), ("page.log", "engine.log")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApp]:
    home = make_home(tmp_path_factory.mktemp("home"), tiny_base())
    as_cloned(home)
    with running(home, **OPENED_WIDE) as app:
        app.wait_for_engine()
        yield app


def as_cloned(home: Path) -> None:
    """The folders as git makes them, and logs of a start before: everybody can read them."""
    for name in PRIVATE:
        (home / "models" / name).mkdir()
        (home / "models" / name).chmod(0o755)
    for name in LOGS:
        (home / "models" / "logs" / name).touch()
        (home / "models" / "logs" / name).chmod(0o644)


def test_005_only_this_machine_is_listened_to_whatever_the_environment_says(app):
    listening = [c.laddr.ip for p in app.processes() for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_006_nothing_in_the_environment_opens_a_file_or_a_way_in(app):
    ways = ("file=/etc/hostname", f"file={app.home}/looked_up", "mcp/", "vibe-code", "profiling/traces")
    for path in ("/monitoring", *(f"/gradio_api/{way}" for way in ways)):
        assert app.page.ask(path).status in (401, 403, 404), path
    assert app.page.ask("/config", {"Origin": "null"}).status == 403
    assert app.page.config()["root"] in ("", app.page.url)
    assert len("".join(app.said).splitlines()) == 1


def test_008_a_second_app_of_the_same_home_names_the_first(app):
    second = spawn(app.home)
    said, _ = second.process.communicate(timeout=real_app.START_S)
    assert second.process.returncode == 2
    assert said == (
        f"The playground is open already, at {app.url}. Use that page, or set PLAYGROUND_HOME to another folder.\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="the limit is POSIX's")
def test_025_those_who_never_finish_their_request_do_not_shut_the_owner_out(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert before[1] > 1000, "this machine grants too few open files to try it"
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (A_MACS_LIMIT, before[1]))
        try:
            app = stack.enter_context(running(make_home(tmp_path, tiny_base()), "--token"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        address, port = app.page.authority.split(":")
        for _ in range(300):
            half = stack.enter_context(socket.create_connection((address, int(port)), timeout=real_app.END_S))
            half.sendall(b"GET / HTTP/1.1\r\nHost: ")
        token = "".join(app.said).partition("?token=")[2].strip()
        assert app.page.ask(f"/?token={token}").status == 200
        assert "Traceback" not in "".join(app.said)


def test_026_two_clicks_at_once_are_one_run(app):
    endpoints = real_app.Endpoints(app.page)
    event, before = endpoints.of("start"), set(app.runs())
    values = endpoints.values(event, **real_app.SMALL | {"setting-epochs": 20})
    for session in ("first", "second"):
        assert app.page.join(event["id"], values, session).status == 200
    sentences = [app.page.outcome(session).sentence for session in ("first", "second")]
    [name] = set(app.runs()) - before
    assert [bool(sentence) for sentence in sentences].count(True) == 1, sentences
    assert name in "".join(sentences) or "is going on" in "".join(sentences)
    app.call("stop")
    app.wait_for_end(name)


def test_024_a_run_goes_on_without_its_page_and_a_new_page_shows_it(app):
    name = app.start_run(**{"setting-epochs": 20})
    app.wait_for_step(name, 1)
    first = app.run(name).step
    assert name in app.view()
    app.wait_for_step(name, first + 2)
    assert name in app.view("another")
    assert app.run(name).is_alive
    app.call("stop")
    assert app.wait_for_end(name).status is RunStatus.STOPPED


def test_001_the_printed_address_carries_the_token_and_the_disk_does_not(tmp_path):
    home = make_home(tmp_path, tiny_base())
    with running(home, "--token") as app:
        token = "".join(app.said).partition("?token=")[2].strip()
        assert len(token) >= 40
        assert app.page.ask("/config").status == 401
        assert app.page.ask(f"/?token={token}").status == 200
        lock = (home / "models" / "app.lock").read_text()
        assert lock == app.url
        written = [path for path in (home / "models").rglob("*") if path.is_file() and "base" not in path.parts]
        assert [path for path in written if token in path.read_text(errors="replace")] == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_028_what_git_has_made_for_everybody_is_the_owners_alone_after_a_start(app):
    models = app.home / "models"
    kept = [*(models / name for name in PRIVATE), *(models / "logs" / name for name in LOGS)]
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in kept} == (
        dict.fromkeys(PRIVATE, "0o700") | dict.fromkeys(LOGS, "0o600")
    )


def test_028_what_the_page_was_sent_outlives_neither_its_end_nor_a_kill_and_the_next_start(tmp_path):
    home, elsewhere = make_home(tmp_path, tiny_base()), tmp_path / "tmp"
    elsewhere.mkdir()

    def left() -> list[Path]:
        files = [path for path in tmp_path.rglob("*") if path.is_file() and "base" not in path.parts]
        return [path for path in files if "treasure" in path.read_text(errors="replace")]

    with running(home, TMPDIR=str(elsewhere)) as app:
        assert app.page.upload("pairs.jsonl", b"treasure").status == 200
        [sent] = left()
        assert [oct(folder.stat().st_mode & 0o077) for folder in (sent.parents[1], sent.parents[2])] == ["0o0", "0o0"]
        engine = app.kill()
    psutil.wait_procs(engine, timeout=real_app.END_S)
    with running(home, TMPDIR=str(elsewhere)) as app:
        assert left() == []
        assert app.page.upload("more.jsonl", b"treasure").status == 200
    assert app.process.returncode == 0
    assert left() == []
    assert list(elsewhere.glob("playground-*")) == []


def test_029_offline_and_without_a_model_the_page_says_how_to_get_one(tmp_path):
    with running(make_home(tmp_path, None), PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path)) as app:
        until(lambda: "✕" in app.view(), real_app.START_S, "what is wrong")
        said = app.view()
        assert "Traceback" not in said
        assert "starter model" in said
        assert app.call("chat-send", **{"chat-message": "Hello"}).sentence


def test_028_what_is_written_for_the_user_is_for_nobody_else(tmp_path):
    home = make_home(tmp_path, tiny_base())
    judged = {"compare-mode": "alone", "compare-placebo_share": 0, "compare-max_new_tokens": 160}
    with (
        # A random model seldom comes to an end, and what was cut is not exported.
        FakeGemini(default=prefers(lambda text: -len(text))) as gemini,
        running(home, GEMINI_API_KEY="a-key-of-nobody", GOOGLE_GEMINI_BASE_URL=gemini.url) as app,
    ):
        app.wait_for_engine()
        name = app.start_run(**{"setting-epochs": 1})
        assert app.wait_for_end(name).status is RunStatus.FINISHED
        assert name in app.view("s")
        said = app.call("compare-start", "s", **{"compare-adapter": name}, **judged)
        assert said.is_done, said
        until(lambda: "model_comparison" in app.view("s") and is_handed_out(home), real_app.END_S, "a result")
        said = app.call("export-judge", "s")
        assert "Exported." in str(said)
        kept = [path for path in (home / "models").rglob("*") if "base" not in path.parts]
        open_to_others = [(oct(path.stat().st_mode), path) for path in kept if seen_by_others(path)]
    assert {path.suffix for path in kept} >= {".log", ".jsonl", ".yaml", ".json", ".safetensors", ".txt", ".csv"}
    assert [path for path in kept if path.parent.name == "pairs"], said
    assert open_to_others == []


def is_handed_out(home: Path) -> bool:
    """Whether the table lies where Gradio hands out from."""
    return any((home / "models" / "logs" / "page").rglob("model_comparison*.csv"))


def seen_by_others(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o077)


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[Callable[[], None] | None]:
    """Inside, `folder` has no room; where no disk may be mounted, what it gives has to be called in the process that is
    to have none."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    try:
        with contextlib.suppress(OSError):
            (folder / "ballast").write_bytes(bytes(2**20) if mounted else b"")
        yield None if mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def test_030_a_full_disk_ends_the_start_at_once_with_a_sentence(tmp_path):
    with full_disk(tmp_path) as limit:
        ended = subprocess.run(
            [sys.executable, "playground.py", "--no-browser", "--port", "0"], preexec_fn=limit,
            cwd=paths.PROJECT_ROOT, env={**os.environ, "PLAYGROUND_HOME": str(tmp_path)}, capture_output=True,
            text=True, timeout=real_app.START_S, check=False,
        )  # fmt: skip
        reason, way_out = ("File too large", "Make it writable") if limit else ("No space left on device", "Make room")
        assert ended.returncode == 1
        assert f"cannot be written ({reason}). {way_out}" in ended.stderr
        assert ended.stderr.startswith(str(tmp_path))
        assert (ended.stdout, ended.stderr.count("\n")) == ("", 1)
        assert not (tmp_path / "models" / "logs" / "engine.log").exists()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_030_a_home_without_room_or_leave_ends_the_start_with_a_sentence(tmp_path):
    for home, reason in ((Path("/proc/nothing"), "cannot be written"), (Path("/dev/null"), "cannot be written")):
        ended = subprocess.run(
            [sys.executable, "playground.py", "--no-browser"],
            cwd=paths.PROJECT_ROOT, env={**os.environ, "PLAYGROUND_HOME": str(home)}, capture_output=True, text=True,
            timeout=real_app.START_S, check=False,
        )  # fmt: skip
        assert ended.returncode == 1
        assert reason in ended.stderr
        assert "PLAYGROUND_HOME" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_032_a_page_that_is_killed_leaves_a_run_that_the_next_one_resumes(tmp_path):
    home = make_home(tmp_path, tiny_base())
    with running(home) as app:
        app.wait_for_engine()
        name = app.start_run(**{"setting-epochs": 20})
        app.wait_for_step(name, 3)
        left = app.kill()
    psutil.wait_procs(left, timeout=real_app.END_S)
    assert [process for process in left if process.is_running()] == []
    gone = app.run(name)
    assert gone.status is RunStatus.INTERRUPTED
    assert list((home / "models" / "finetuned" / name / "checkpoints").iterdir())
    with running(home) as app:
        app.wait_for_engine()
        assert list(app.runs()) == [name]
        assert "Resume" in gone.reason
        assert name in app.view("s")
        assert not app.call("resume", "s").sentence
        assert app.wait_for_end(name).status is RunStatus.FINISHED
        assert list(app.runs()) == [name]
