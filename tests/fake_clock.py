"""Time that nobody waits for: `clock()` and `clock.sleep` in seconds, for whatever takes both."""

import threading


class FakeClock:
    """Passes only where somebody sleeps; where several threads do, their sleeps add up."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds


class LockstepClock:
    """One time for threads side by side: it stands while any of them works, and leaps on when all are asleep."""

    def __init__(self, num_threads: int) -> None:
        self.now = 1000.0
        self._num_awake = num_threads
        self._wakes: list[float] = []
        self._leapt = threading.Condition()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._leapt:
            wake = self.now + seconds
            self._wakes.append(wake)
            self._rest()
            while self.now < wake:
                self._leapt.wait()

    def leave(self) -> None:
        """A thread that is done is waited for no longer."""
        with self._leapt:
            self._rest()

    def _rest(self) -> None:
        self._num_awake -= 1
        if self._num_awake == 0 and self._wakes:
            self.now = min(self._wakes)
            self._num_awake = self._wakes.count(self.now)
            self._wakes = [wake for wake in self._wakes if wake > self.now]
            self._leapt.notify_all()
