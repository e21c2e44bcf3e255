"""Why an engine ended: its exit code in words, and the last that it wrote into its log.

Knows nothing of the pipe, and starts nothing.
"""

import signal
from collections import deque
from pathlib import Path

from core import paths
from core.redact import redact

CAUSES = {
    0: "it was asked to",
    -signal.SIGKILL: "it was killed (SIGKILL), likely for want of memory",
    -signal.SIGSEGV: "it crashed (SIGSEGV); models/logs/engine.log says where",
    -signal.SIGABRT: "it aborted (SIGABRT); models/logs/engine.log says where",
}
SIGNALS = {number.value: number.name for number in signal.Signals}
MAX_LINE_CHARACTERS = 200


def cause(exit_code: int | None, log_start: int) -> str:
    """What ended it, to go into a sentence. `log_start` is the log's size in bytes when it was started."""
    if exit_code is None:
        return "it closed its connection"
    if exit_code in CAUSES:
        return CAUSES[exit_code]
    if exit_code < 0:
        return f"{SIGNALS.get(-exit_code, f'signal {-exit_code}')} ended it"
    # A Python error: its last line is what it is about.
    said = _last_line(log_start)
    return f"exit code {exit_code}, {said}" if said else f"exit code {exit_code}"


def log_path() -> Path:
    return paths.logs_dir() / "engine.log"


def log_size() -> int:
    return log_path().stat().st_size if log_path().is_file() else 0


def log_tail(lines: int) -> str:
    if not log_path().is_file():
        return ""
    with log_path().open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, lines))


def _last_line(start: int) -> str:
    """The last line written after `start` bytes, empty where nothing was; a log begun anew counts whole."""
    if not log_path().is_file():
        return ""
    with log_path().open("rb") as file:
        file.seek(start if start <= log_size() else 0)
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return next((redact(line.strip())[:MAX_LINE_CHARACTERS] for line in reversed(lines) if line.strip()), "")
