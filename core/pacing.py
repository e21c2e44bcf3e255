"""How fast calls may go out: one pace for all threads of a judge.

Knows nothing of what is called. Seconds are those of the `clock` it is given.
"""

import threading
from collections.abc import Callable

from core.errors import Cancelled

SLOWEST_PER_S = 1.0
RECOVERY_PER_S = 0.1
# Waits are cut into slices, so that Stop is heard.
SLICE_S = 0.25
# What is asked when patience has run out on others still gets this long: else nobody would notice the recovery.
LEAST_PATIENCE_S = 30.0


class Pace:
    """Lets one call at a time go, `per_s` a second: halved by a 429, a little faster with each answer.

    A hint holds every thread back. Patience is shared too: it runs from the first failure since the last answer.
    """

    def __init__(self, per_s: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._fastest = self.per_s = per_s
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._last_at = self._held_until = float("-inf")
        self._troubled_since: float | None = None

    def deadline(self, patience_s: float) -> float:
        """When, by the clock, what is begun now is given up."""
        with self._lock:
            now = self._clock()
            began = now if self._troubled_since is None else self._troubled_since
        return max(began + patience_s, now + min(LEAST_PATIENCE_S, patience_s))

    def answered(self) -> None:
        with self._lock:
            self.per_s = min(self._fastest, self.per_s + RECOVERY_PER_S)
            self._troubled_since = None

    def failed(self, hint_s: float = 0.0) -> None:
        """A call came to nothing, and the server would have no other for `hint_s`."""
        with self._lock:
            now = self._clock()
            self._held_until = max(self._held_until, now + hint_s)
            self._troubled_since = now if self._troubled_since is None else self._troubled_since

    def refused(self, hint_s: float = 0.0) -> None:
        """A call was one too many."""
        with self._lock:
            self.per_s = max(SLOWEST_PER_S, self.per_s / 2)
        self.failed(hint_s)

    def is_passed(self, deadline: float, check: Callable[[], None], not_before: float = float("-inf")) -> bool:
        """Wait for this call's turn; False at once where that is after `deadline`. `check` raises to stop the wait."""
        while True:
            check()
            with self._lock:
                now = self._clock()
                opens_at = max(self._last_at + 1 / self.per_s, self._held_until, not_before)
                if opens_at <= now < deadline:
                    self._last_at = now
                    return True
            if max(opens_at, now) >= deadline:
                return False
            self._sleep(min(opens_at - now, SLICE_S))


def stop_if(is_cancelled: Callable[[], bool]) -> None:
    if is_cancelled():
        raise Cancelled("Judging was stopped. What is judged is kept.")
