"""Keys: taken from the environment or .env, and never seen again."""

import io
import logging
import os

import pytest

from core import redact
from core.errors import RequestError

CANARY = "canary/key+4711"


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GEMINI_API_KEY", CANARY)
    return CANARY


@pytest.fixture
def log():
    """What a handler that was there before `install` writes, tracebacks included."""
    factory = logging.getLogRecordFactory()
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("httpx")
    # Not by monkeypatch: what a logger lets through is cached until its level is set.
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    redact.install()
    yield text
    logger.removeHandler(handler)
    logger.setLevel(level)
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize("name", redact.SECRETS)
def test_a_known_key_is_taken_out_wherever_it_stands(monkeypatch, name):
    monkeypatch.setenv(name, CANARY)
    text = f"GET https://host/?key={CANARY}&again=canary%2Fkey%2B4711 failed with {CANARY!r}"
    assert redact.redact(text) == "GET https://host/?key=[redacted]&again=[redacted] failed with '[redacted]'"


@pytest.mark.parametrize("key", ["hf_" + "aB3" * 11, "AIza" + "Sy-_9" * 7, "AQ." + "Ab8_-" * 9])
def test_whatever_looks_like_a_key_is_taken_out(key):
    assert redact.redact(f"x-goog-api-key: {key}, next") == "x-goog-api-key: [redacted], next"
    assert redact.redact(f"token={key}") == "token=[redacted]"


@pytest.mark.parametrize("text", ["", "hf_hub_download failed", "AIzawa is a town", "shelf_life and half_baked"])
def test_ordinary_text_stays(monkeypatch, text):
    monkeypatch.setenv("HF_TOKEN", "a")
    assert redact.redact(text) == text


def test_no_log_line_holds_a_key(canary, log):
    logger = logging.getLogger("httpx")
    logger.debug("headers %s", {"x-goog-api-key": canary})
    logger.info("%s and %d", f"key={canary}", 7, stack_info=True)
    logger.warning(f"broken %d {canary}", "x")
    try:
        raise ValueError(f"refused: {canary}")
    except ValueError:
        logger.exception("call failed")
    assert canary not in log.getvalue()
    assert log.getvalue().count(redact.REDACTED) >= 4
    assert "ValueError: refused: [redacted]" in log.getvalue()


def test_a_clean_record_keeps_its_arguments(canary, log, caplog):
    logging.getLogger("httpx").warning("%s took %d ms", "GET", 12)
    assert caplog.records[-1].args == ("GET", 12)


def test_installing_twice_changes_nothing(log):
    factory = logging.getLogRecordFactory()
    redact.install()
    assert logging.getLogRecordFactory() is factory


@pytest.mark.parametrize("value", ["two words", "line\n", "\ttab", "schlüssel", "zero\u200bwidth", "“quoted”"])
def test_a_key_that_no_server_would_take_is_refused(monkeypatch, value):
    monkeypatch.setenv("GEMINI_API_KEY", value)
    with pytest.raises(RequestError) as caught:
        redact.api_key("GEMINI_API_KEY")
    assert str(caught.value) == (
        "GEMINI_API_KEY holds a space, a line break or a letter that no key has. Copy the key again, alone on one "
        "line, into .env."
    )


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_key_is_none(monkeypatch, value):
    monkeypatch.setenv("GEMINI_API_KEY", value)
    assert redact.api_key("GEMINI_API_KEY") == ""


@pytest.fixture
def env_file(tmp_path, monkeypatch):
    path = tmp_path / ".env"
    path.write_text("\ufeffGEMINI_API_KEY=from-file\nHUGGINGFACE_TOKEN='from-${HOME}'\n", encoding="utf-8")
    path.chmod(0o600)
    monkeypatch.setenv("GEMINI_API_KEY", "from-environment")
    # Set first, so that what the file sets is undone after the test.
    monkeypatch.setenv("HUGGINGFACE_TOKEN", "")
    monkeypatch.delenv("HUGGINGFACE_TOKEN")
    return path


def test_the_environment_beats_the_file(env_file):
    redact.load_env(env_file)
    assert redact.api_key("GEMINI_API_KEY") == "from-environment"
    assert redact.api_key("HUGGINGFACE_TOKEN") == "from-${HOME}"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(env_file, mode):
    env_file.chmod(mode)
    with pytest.raises(RequestError) as caught:
        redact.load_env(env_file)
    assert str(caught.value) == (
        f"{env_file} holds keys, and others on this machine can read it. Run: chmod 600 {env_file}"
    )
    assert "HUGGINGFACE_TOKEN" not in os.environ


def test_no_file_is_no_error(tmp_path):
    redact.load_env(tmp_path / ".env")


def test_a_file_that_is_no_text_is_a_sentence(env_file):
    env_file.write_bytes(b"\xff\xfeG\x00")
    with pytest.raises(RequestError, match=r"cannot be read as text\. Write it anew after \.env\.example\."):
        redact.load_env(env_file)
