"""The one thread of the page's process in which a comparison is answered and judged.

Knows the comparison only as something that runs, reports and can be stopped; no component, no wording of
results. Its truth is the comparison's journal: a page that was reloaded finds it here, a program that was
started anew finds it on disk.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.client import EngineClient, Response, Turn
from core.compare import Comparison, list_comparisons
from core.errors import BusyError, Cancelled, PlaygroundError, RequestError
from core.judge import Judge
from core.messages import Conversation
from core.settings import Decoding

# Before a tenth is done, a guess of the rest is worth nothing.
GUESS_FROM_SHARE = 0.1
# At the start of a page, for one with open votes.
LOOKED_THROUGH = 20
ANSWERING, MEASURING, JUDGING = "answering", "measuring", "judging"


@dataclass(frozen=True)
class Progress:
    """How far a phase is: pairs `done` of `total`, `share` of all its work, `eta_s` seconds until its end."""

    phase: str = ANSWERING
    done: int = 0
    total: int = 0
    share: float = 0.0
    eta_s: float | None = None


class ComparisonWorker:
    """Runs one comparison at a time. `record` turns an unforeseen error into the sentence to show for it."""

    def __init__(self, client: EngineClient, record: Callable[[Exception], str]) -> None:
        self.client = client
        self.failure = ""
        self._record = record
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._comparison: Comparison | None = None
        self.progress = Progress()
        self._began_s, self._began_share = 0.0, 0.0

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        return self.is_running and self._stop.is_set()

    def current(self) -> Comparison | None:
        """The comparison that runs or was chosen; to begin with the newest that waits for votes, or else the newest."""
        with self._lock:
            if not self.is_running and (self._comparison is None or not self._comparison.path.is_file()):
                self._comparison = _waiting() or Comparison.latest()
            return self._comparison

    def choose(self, name: str) -> None:
        """Turn to another comparison on disk; RequestError where there is none of this name."""
        with self._lock:
            if self.is_running:
                raise BusyError("A comparison is going on. Stop it first, then choose another.")
            path = next((path for path in list_comparisons() if path.stem == name), None)
            if path is None:
                raise RequestError(f"There is no comparison named {str(name)[:60]!r}. Choose one of the list.")
            self._comparison, self.failure = Comparison.open(path), ""

    def start(self, open_comparison: Callable[[], Comparison], judge: Judge | None) -> None:
        """Answer and judge whatever the comparison still lacks; returns at once, BusyError while one runs.

        It is opened in here, so that two clicks at once begin one comparison and not two.
        """
        with self._lock:
            if self.is_running:
                raise BusyError("A comparison is going on already. Stop it first, or wait until it is done.")
            comparison = open_comparison()
            self._stop.clear()
            self.failure = ""
            self._comparison = comparison
            self.progress = Progress(total=comparison.counts().total)
            self._thread = threading.Thread(target=self._run, args=(comparison, judge), daemon=True, name="comparison")
            self._thread.start()

    def stop(self) -> None:
        """End after what is being asked just now; all that came before is kept."""
        self._stop.set()

    def join(self, timeout_s: float | None = None) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, comparison: Comparison, judge: Judge | None) -> None:
        adapter = comparison.plan.adapter

        def drift(rows: Sequence[tuple[Conversation, str]]) -> list[float]:
            return self.client.drift(adapter, rows, self._measured)

        try:
            comparison.run(self._answer, judge, self._stop.is_set, self._advance, drift)
        except PlaygroundError as error:
            self.failure = str(error)
        except Exception as error:
            self.failure = self._record(error)

    def _answer(self, turns: list[Turn], decoding: Decoding) -> list[Response]:
        before = self.progress

        def count_tokens(done: int, total: int) -> None:
            self._heed_stop()
            batch = len(turns) / 2 / before.total if before.total and total else 0.0
            self._move(before.phase, before.done, before.total, before.share + batch * done / max(total, 1))

        return self.client.answer(turns, decoding, count_tokens)

    def _measured(self, done: int, total: int) -> None:
        self._heed_stop()
        self._advance(MEASURING, done, total)

    def _heed_stop(self) -> None:
        if self._stop.is_set():
            raise Cancelled("The comparison was stopped.")

    def _advance(self, phase: str, done: int, total: int) -> None:
        share = done / total if total else 1.0
        if phase != self.progress.phase or self._began_s == 0.0 or share < self._began_share:
            self._began_s, self._began_share = time.monotonic(), share
        self._move(phase, done, total, share)

    def _move(self, phase: str, done: int, total: int, share: float) -> None:
        gone = share - self._began_share
        is_guessable = gone >= GUESS_FROM_SHARE and share < 1.0
        eta_s = (time.monotonic() - self._began_s) / gone * (1.0 - share) if is_guessable else None
        self.progress = Progress(phase, done, total, share, eta_s)


def _waiting() -> Comparison | None:
    """The newest of the last comparisons that a person has still to vote on."""
    for path in list_comparisons()[:LOOKED_THROUGH]:
        with contextlib.suppress(PlaygroundError):
            comparison = Comparison.open(path)
            if comparison.pending():
                return comparison
    return None
