"""Keys: where they come from, and that they never get out.

Knows nothing of who uses a key. What is written for people to read, logs above all, goes through `redact`.
"""

import functools
import logging
import os
import re
import stat
import sys
from collections.abc import Callable
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.errors import RequestError
from core.paths import PROJECT_ROOT, keep_private, logs_dir

SECRETS = ("GEMINI_API_KEY", "GOOGLE_API_KEY", "HUGGINGFACE_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
LOOKS_LIKE_A_KEY = re.compile(r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}|AIza[A-Za-z0-9_-]{16,}|AQ\.[A-Za-z0-9_-]{16,})")
# Anything shorter is no key, and would tear holes into ordinary words.
MIN_SECRET_CHARACTERS = 6
MAX_LOG_BYTES = 1024 * 1024
REDACTED = "[redacted]"


def redact(text: str) -> str:
    """`text` without any key that this process knows, and without whatever looks like one."""
    for secret in sorted(_known_secrets(), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return LOOKS_LIKE_A_KEY.sub(REDACTED, text)


def for_terminal(text: str) -> str:
    """`text` without keys, and without what a terminal would obey: names, paths and responses may hold that."""
    return "".join(c for c in redact(text) if c in "\n\t" or c.isprintable())


def _known_secrets() -> set[str]:
    values = {os.environ.get(name, "").strip() for name in SECRETS}
    values = {value for value in values if len(value) >= MIN_SECRET_CHARACTERS}
    # In a URL or a repr the same key is spelled another way.
    return values | {quote(value, safe="") for value in values} | {repr(value)[1:-1] for value in values}


def api_key(name: str) -> str:
    """The key of that name, empty where none is set; RequestError where no server would take it."""
    value = os.environ.get(name, "")
    if not value.strip():
        return ""
    if all("!" <= character <= "~" for character in value):
        return value
    raise RequestError(
        f"{name} holds a space, a line break or a letter that no key has. Copy the key again, alone on one line, "
        "into .env."
    )


def load_env(path: Path = PROJECT_ROOT / ".env") -> None:
    """Take over what `.env` sets and the environment does not; RequestError where others could read the keys."""
    if not path.is_file():
        return
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise RequestError(f"{path} holds keys, and others on this machine can read it. Run: chmod 600 {path}")
    from dotenv import load_dotenv

    try:
        load_dotenv(path, override=False, interpolate=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read as text. Write it anew after .env.example.") from error


class _PrivateLog(RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        opened = super()._open()
        keep_private(Path(self.baseFilename))
        return opened


def open_log(name: str) -> RotatingFileHandler:
    """A log of this name in models/logs, for its owner alone, which never grows beyond twice MAX_LOG_BYTES."""
    return _PrivateLog(logs_dir() / name, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8")


class _RedactingFactory:
    """Makes log records as before and cleans each at once, so no handler, early or late, sees a key."""

    def __init__(self) -> None:
        self.make = logging.getLogRecordFactory()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.make(*args, **kwargs)
        _clean_record(record)
        return record


def _clean_record(record: logging.LogRecord) -> None:
    """No key stays in its message, its traceback or its stack."""
    message = _message(record)
    # A clean record keeps its arguments, since some formatters read them.
    if redact(message) != message:
        record.msg, record.args = redact(message), ()
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    if record.exc_text:
        # Without the exception itself, no formatter can write it out again in full.
        record.exc_text, record.exc_info = redact(record.exc_text), None
    if record.stack_info:
        record.stack_info = redact(record.stack_info)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args!r}"


def install() -> None:
    """From now on every logger of this process is redacted, and whatever is printed; again, it changes nothing."""
    if not isinstance(logging.getLogRecordFactory(), _RedactingFactory):
        logging.setLogRecordFactory(_RedactingFactory())
    for stream in (sys.stdout, sys.stderr):
        _clean(stream)


def _clean(stream: Any) -> None:
    """Tracebacks that nobody caught, and what libraries print, go by no logger."""
    write = stream.write
    if not isinstance(write, functools.partial):
        stream.write = functools.partial(_write, write)


def _write(write: Callable[[str], int], text: str) -> int:
    return write(redact(text))
