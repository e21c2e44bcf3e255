"""How a run stands while it goes on, and the wishes that reach it: pause, stop, skip.

Writes the run's status; knows nothing of training.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from core import runs
from core.errors import Cancelled
from core.forecast import Forecast
from core.runs import Phase, Run, RunStatus

WRITE_EVERY_S = 0.5
PAUSE_S = 0.05
STOOD_STILL = "stood still for {:.0f} s: the computer slept, or the process was stopped; the run goes on"


@dataclass
class Control:
    """The wishes that reach a run from outside, and the door through which it lets others in."""

    serve: Callable[[], None] = lambda: None
    is_stopping: bool = False
    is_paused: bool = False
    is_trait_skipped: bool = False
    is_discarded: bool = False
    # Why it stops, where that was not the user's wish: the run is then interrupted, not stopped.
    interruption: str = ""

    def discard(self) -> None:
        """Stop, and keep nothing."""
        self.is_stopping = self.is_discarded = True


@dataclass
class Reporter:
    """Keeps `status.json` up to date without writing it more than twice a second."""

    run: Run
    control: Control
    written_at: float = 0.0
    phase_began: float = field(default_factory=time.monotonic)
    first_step: int = 0
    trained_at: float = 0.0
    peak: Callable[[], int] = lambda: 0
    # What the phases cost beside each other, once the rows are known.
    forecast: Forecast = Forecast()

    def phase(self, phase: Phase, total: int = 0) -> None:
        self.phase_began = time.monotonic()
        self._write(phase=phase, phase_done=0, phase_total=total, eta_s=None)

    def done(self, done: int) -> None:
        """Progress within the phase; serves, waits while paused, and raises Cancelled where a stop was asked for."""
        self.serve()
        if self.control.is_stopping:
            raise Cancelled("Stopped.")
        self.progress(phase_done=done)

    def progress(self, **changes: Any) -> None:
        total, done = self.run.phase_total, changes["phase_done"]
        elapsed = time.monotonic() - self.phase_began
        began = self.first_step if self.run.phase == Phase.TRAINING else 0
        eta = self.forecast.left_s(Phase(self.run.phase), began, done, total, elapsed)
        self.run = replace(self.run, **changes, eta_s=eta)
        if time.monotonic() - self.written_at > WRITE_EVERY_S or done >= total:
            self._write()

    def serve(self) -> None:
        """Let others in, and wait while paused; none of that counts as the phase's own time."""
        began = time.monotonic()
        self.control.serve()
        if self.control.is_paused and not self.control.is_stopping:
            self._pause()
        self.phase_began += time.monotonic() - began

    def _pause(self) -> None:
        self._write(status=RunStatus.PAUSED, eta_s=None)
        while self.control.is_paused and not self.control.is_stopping:
            time.sleep(PAUSE_S)
            self.control.serve()
        self._write(status=RunStatus.RUNNING)

    def stood_still(self, seconds: float, counted: float) -> None:
        """Note a standstill, and reckon without what the clock has counted of it."""
        runs.log(self.run.name, STOOD_STILL.format(seconds))
        self.phase_began += counted
        self.trained_at += counted

    def trained(self) -> None:
        """Count the time since `trained_at` as training's."""
        now = time.monotonic()
        self.run = replace(self.run, train_s=self.run.train_s + now - self.trained_at)
        self.trained_at = now

    def _write(self, **changes: Any) -> None:
        self.run = runs.write(self.run, **changes, peak_memory_bytes=max(self.run.peak_memory_bytes, self.peak()))
        self.written_at = time.monotonic()
