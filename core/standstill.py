"""When everything stood still: the computer slept, or the process was stopped and went on.

A thread that wakes often and finds that it did not. Knows nothing of what goes on meanwhile.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

TICK_S = 0.25
# Less than this is a busy machine.
NOTED_S = 3.0


def _always() -> float:
    """Seconds that go on while a computer sleeps: `time.monotonic` does not."""
    if not hasattr(time, "clock_gettime"):  # Windows, whose monotonic clock does
        return time.monotonic()
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@contextlib.contextmanager
def watched(on_gap: Callable[[float, float], None]) -> Iterator[None]:
    """Inside, `on_gap(seconds, counted)` is called from another thread after each standstill: how long it was, and how
    much of it `time.monotonic` has counted."""
    is_over = threading.Event()

    def watch() -> None:
        before = _always(), time.monotonic()
        while not is_over.wait(TICK_S):
            now = _always(), time.monotonic()
            if now[0] - before[0] > NOTED_S:
                on_gap(now[0] - before[0], now[1] - before[1])
            before = now

    threading.Thread(target=watch, name="standstill", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
