"""Why an engine ended: its exit code in words, and the last that it wrote into its log.

Knows nothing of the pipe, and starts nothing.
"""

import re
import signal
from collections import deque
from pathlib import Path

from core import paths
from core.redact import redact

CAUSES = {
    0: "it was asked to",
    -signal.SIGKILL: "it was killed (SIGKILL), likely for want of memory",
    -signal.SIGSEGV: "it crashed (SIGSEGV){}; models/logs/engine.log says where",
    -signal.SIGABRT: "it aborted (SIGABRT){}; models/logs/engine.log says where",
}
SIGNALS = {number.value: number.name for number in signal.Signals}
MAX_LINE_CHARACTERS = 200
LAST_LINES = 20
MAX_READ_BYTES = 100_000
LAST_WORDS = "Exit code {}. The engine's log ends with:\n{}"
# As faulthandler writes it: the innermost line of the thread that crashed.
PLACE = re.compile(r'^Current thread .*\n  File "(?:.*/)?([^/"]+)", line (\d+)', re.MULTILINE)


def cause(exit_code: int | None, log_start: int) -> str:
    """What ended it, to go into a sentence. `log_start` is the log's size in bytes when it was started."""
    if exit_code is None:
        return "it closed its connection"
    if exit_code in CAUSES:
        return CAUSES[exit_code].format(_place(log_start))
    if exit_code < 0:
        return f"{SIGNALS.get(-exit_code, f'signal {-exit_code}')} ended it"
    # A Python error: its last line is what it is about.
    said = _lines(log_start)[-1:]
    return f"exit code {exit_code}, {said[0]}" if said else f"exit code {exit_code}"


def last_words(exit_code: int | None, log_start: int) -> str:
    """Its exit code and the end of what it wrote, for a log: the engine's own begins anew when it has grown."""
    lines = _lines(log_start)[-LAST_LINES:] or ["(nothing)"]
    return LAST_WORDS.format(exit_code, "\n".join(f"    {line}" for line in lines))


def log_path() -> Path:
    return paths.logs_dir() / "engine.log"


def log_size() -> int:
    return log_path().stat().st_size if log_path().is_file() else 0


def log_tail(lines: int) -> str:
    if not log_path().is_file():
        return ""
    with log_path().open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, lines))


def _place(start: int) -> str:
    """Where in Python it was when it crashed; empty where that is not known."""
    found = PLACE.findall(_written(start))
    return " in {}, line {}".format(*found[-1]) if found else ""


def _lines(start: int) -> list[str]:
    """What was written after `start` bytes, without blank lines and keys."""
    return [redact(line.strip())[:MAX_LINE_CHARACTERS] for line in _written(start).splitlines() if line.strip()]


def _written(start: int) -> str:
    """The log after `start` bytes, the last of it where it is long; one begun anew counts whole."""
    if not log_path().is_file():
        return ""
    with log_path().open("rb") as file:
        size = log_size()
        file.seek(max(start if start <= size else 0, size - MAX_READ_BYTES))
        return file.read().decode("utf-8", errors="replace")
