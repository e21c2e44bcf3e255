"""What a Mac is asked for while a run goes on, and told when it is over. Does nothing on any other system.

Both go through programs that every Mac has; where one is missing or fails, the run goes on without.
"""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator

# The texts are handed over as arguments: nothing in them can be read as a part of the script.
SCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)
NOTICE_S = 10


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Inside, a Mac does not fall asleep by itself; it may again as soon as this process is gone."""
    keeper = _start("caffeinate", "-is", "-w", str(os.getpid()))
    try:
        yield
    finally:
        if keeper is not None:
            keeper.terminate()
            keeper.wait()


def notify(title: str, text: str) -> None:
    """A notification of the system's own."""
    script = [word for line in SCRIPT for word in ("-e", line)]
    teller = _start("osascript", *script, title, text)
    if teller is not None:
        try:
            teller.wait(NOTICE_S)
        except subprocess.TimeoutExpired:
            teller.kill()
            teller.wait()


def _start(*command: str) -> subprocess.Popen[bytes] | None:
    if platform.system() != "Darwin":
        return None
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, ValueError):  # no such program, or a text that no program can be handed
        return None
