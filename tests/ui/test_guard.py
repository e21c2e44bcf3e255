"""Who gets in at the page's door: itself, and nobody else, on every route."""

import itertools
import logging
import os
import socket

import pytest

from core import paths, redact
from core.errors import RequestError
from core.ui import app, guard, notices
from tests.faults.door import Page, multipart_type

HOSTILE_HOSTS = (
    "evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "192.168.1.7:7860", "[", "[::1", "127.0.0.1:x", "@",
)  # fmt: skip
HOSTILE_ORIGINS = (
    "http://evil.com", "null", "http://localhost:1", "https://127.0.0.1", "file://", "http://127.0.0.1.evil.com",
    "http://evil.com@127.0.0.1", "", "http://[", "http://[::1", "http://127.0.0.1:x",
)  # fmt: skip
PATHS = ("/config", "/gradio_api/info", "/gradio_api/queue/join", "/gradio_api/upload", "/theme.css")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A bare Gradio page behind the real door; what is on it does not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        patch.setenv("PLAYGROUND_HOME", str(tmp_path_factory.mktemp("home")))
        guard.harden_environment()
        import gradio as gr

        with gr.Blocks(analytics_enabled=False) as demo:
            gr.Textbox()
        port = app.free_port("127.0.0.1", 0)
        demo.launch(
            server_name="127.0.0.1", server_port=port, quiet=True, prevent_thread_lock=True, ssr_mode=False,
            run_history=False,
            app_kwargs={"middleware": guard.Door().middlewares(), "max_body_size": guard.MAX_BODY_BYTES},
        )  # fmt: skip
        yield Page(f"http://127.0.0.1:{port}")
        demo.close(verbose=False)


def test_the_page_itself_gets_in(page):
    own = {"Origin": page.url, "Sec-Fetch-Site": "same-origin"}
    assert page.ask("/").status == 200
    assert [page.ask(path, own).status for path in ("/config", "/gradio_api/info", "/theme.css")] == [200, 200, 200]


@pytest.mark.parametrize("host", HOSTILE_HOSTS)
def test_a_name_that_was_pointed_here_is_refused_everywhere(page, host):
    assert {page.ask(path, {"Host": host}).status for path in ("/", *PATHS)} == {400}


@pytest.mark.parametrize(("origin", "path"), itertools.product(HOSTILE_ORIGINS, PATHS))
def test_what_another_page_sends_is_refused_everywhere(page, origin, path):
    assert page.ask(path, {"Origin": origin}).status == 403
    assert page.ask(path, {"Origin": origin, "Content-Type": "application/json"}, b"{}").status == 403


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
def test_a_browser_that_says_it_comes_from_elsewhere_is_refused_without_an_origin(page, path, site):
    assert page.ask(path, {"Sec-Fetch-Site": site}).status == 403


def test_a_link_from_elsewhere_may_open_the_page_but_not_post_to_it(page):
    assert page.ask("/", {"Sec-Fetch-Site": "cross-site"}).status == 200
    assert page.ask("/", {"Sec-Fetch-Site": "cross-site"}, b"").status == 403


def test_two_origins_are_not_better_than_one():
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join",
             "headers": [(b"host", b"127.0.0.1:7860"), (b"origin", b"http://127.0.0.1:7860"),
                         (b"origin", b"http://evil.com")]}  # fmt: skip
    assert not guard.is_ours(scope)


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_over_the_limit_is_refused_before_it_is_sent(page, path):
    length = {"Content-Length": str(guard.MAX_BODY_BYTES + 1)}
    assert page.ask(path, multipart_type() | length, method="POST").status == 413


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_of_unknown_length_is_refused(page, path):
    assert page.ask(path, multipart_type() | {"Transfer-Encoding": "chunked"}, method="POST").status == 411


def test_nothing_in_the_environment_opens_the_door(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ |= {"GRADIO_SHARE": "True", "GRADIO_ALLOWED_PATHS": "/", "GRADIO_SERVER_NAME": "0.0.0.0"}
    guard.harden_environment()
    left = {name: value for name, value in os.environ.items() if name.startswith("GRADIO_")}
    assert left.pop("GRADIO_TEMP_DIR")
    assert left == {"GRADIO_ANALYTICS_ENABLED": "False"}


def test_uploads_are_for_their_owner_alone(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    guard.harden_environment()
    assert os.stat(os.environ["GRADIO_TEMP_DIR"]).st_mode & 0o077 == 0


def test_a_host_that_lets_others_in_is_refused_without_a_token(monkeypatch):
    with pytest.raises(RequestError) as refusal:
        app.launch("0.0.0.0")
    assert str(refusal.value) == (
        "--host '0.0.0.0' lets other machines in, and then the page asks for a token: add --token. Safer, since "
        "nothing is encrypted on the way: leave --host out and forward the port, ssh -L 7860:127.0.0.1:7860 <this "
        "machine>."
    )


def test_a_busy_port_gives_way_to_the_next():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert app.free_port("127.0.0.1", port) > port


@pytest.fixture
def page_log():
    """The page's log, as a started app has it."""
    paths.ensure_home()
    log = logging.getLogger("playground")
    app.log_to_file()
    yield paths.logs_dir() / "page.log"
    log.handlers.pop().close()
    log.propagate = True


def test_a_notice_names_a_log_that_is_there_without_keys_and_of_a_limited_size(page_log, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "canary-key-0001")
    assert page_log.is_file()
    said = notices.record(RuntimeError("canary-key-0001"))
    text = page_log.read_text()
    assert said.split("under ")[1].rstrip(".") in text
    assert "canary" not in text
    for _ in range(4):
        notices.record(RuntimeError("x" * (redact.MAX_LOG_BYTES // 2)))
    assert sum(file.stat().st_size for file in page_log.parent.glob("page.log*")) <= 2 * redact.MAX_LOG_BYTES
