"""The page's side of the pipe to the engine process: typed questions, answers, streams and the engine's state.

Knows nothing of torch or Gradio. One reader thread routes what comes back by the number of its request. When the
engine ends, whatever waited is told why, and a new engine is started.
"""

import contextlib
import itertools
import multiprocessing
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from core import engine_end, engine_start, errors, paths, runs
from core.messages import Conversation
from core.settings import Decoding
from core.wire import (
    ENDS,
    MAX_DRIFT_ROWS,
    BaseCard,
    CheckReport,
    Chunk,
    DataView,
    EnginePhase,
    EngineState,
    Event,
    EventKind,
    Merged,
    Request,
    Response,
    RunPlan,
    RunRequest,
    Turn,
)

# What is asked and answered is imported from here too.
__all__ = [
    "BaseCard", "CheckReport", "Chunk", "EngineClient", "EnginePhase", "EngineState", "Response", "RunPlan",
    "RunRequest", "Turn",
]  # fmt: skip

CLOSE_S = 30.0
# From the closed pipe to the end of the process.
GRACE_S = 10.0
AGAIN = "{} It is being started again."
DEATH = "The engine ended: {}. Runs are kept and can be resumed; what was being answered is lost."


class EngineClient:
    """One engine process and the way to it. Every public method may be called from any thread."""

    def __init__(self, base: str = paths.STARTER_NAME) -> None:
        self._base = base
        # Who waits, and for which engine. Never held while something is sent, because the reader needs it.
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Event]] = {}
        self._state = EngineState()
        self._pipe: Connection | None = None
        self._process: Any = None
        self._reader: threading.Thread | None = None
        self._log_start = 0
        self._is_closed = False

    # Life and death

    def start(self) -> None:
        """Spawn the engine and let it load the base; returns at once."""
        from core import engine_process

        with self._lock:
            if self._is_closed or self._pipe is not None:
                return
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=engine_process.main, args=(theirs,), name="engine", daemon=True)
            self._log_start = engine_end.log_size()
            process.start()
            theirs.close()
            # Sent before anybody else can send: what comes after finds the base on its way. Where the engine is gone
            # already, the reader says why.
            with contextlib.suppress(OSError):
                ours.send(Request(next(self._numbers), "load_base", {"name": self._base}))
            self._process, self._pipe = process, ours
            was_dead = self._state.phase is EnginePhase.DEAD
            self._state = EngineState(message=AGAIN.format(self._state.message)) if was_dead else EngineState()
            self._reader = threading.Thread(target=self._read, args=(ours, process), name="engine-reader", daemon=True)
            self._reader.start()

    def close(self) -> None:
        """Let the engine go: it commits a run's checkpoint before it exits."""
        with self._lock:
            self._is_closed = True
            pipe, self._pipe, reader = self._pipe, None, self._reader
        if pipe is not None and reader is not None:
            # Closing a pipe that the reader waits on would reach nobody.
            with contextlib.suppress(OSError), self._sending:
                pipe.send(Request(0, "close", {}))
            # The reader waits for the process: where two threads do, one of them is told of no exit code.
            reader.join(timeout=CLOSE_S)

    def state(self) -> EngineState:
        """The last that the engine has said; never waits."""
        return self._state

    def log_tail(self, lines: int = 20) -> str:
        return engine_end.log_tail(lines)

    def _read(self, pipe: Connection, process: Any) -> None:
        try:
            self._bury(self._route_all(pipe, process), process.exitcode)
        finally:
            pipe.close()

    def _route_all(self, pipe: Connection, process: Any) -> str:
        """Whatever the engine says, until its end; gives the cause of that."""
        try:
            cause = engine_start.hang(pipe, process)
            while not cause:
                self._route(pipe.recv())
        except (EOFError, OSError):
            process.join(timeout=GRACE_S)
            cause = engine_end.cause(process.exitcode, self._log_start)
        if process.exitcode is None:
            # It never began, or what it had to save is saved: something hangs, and would keep the page from ending.
            process.kill()
            process.join()
        return cause

    def _route(self, event: Event) -> None:
        if event.kind is EventKind.STATE:
            self._state = event.data
            if self._state.phase is EnginePhase.READY:
                # A run may have changed it: an engine that takes this one's place loads the same.
                self._base = self._state.base
            return
        with self._lock:
            box = self._waiting.get(event.number)
            if event.kind in ENDS:
                self._waiting.pop(event.number, None)
        if box is not None:
            box.put(event)

    def _bury(self, cause: str, exit_code: int | None) -> None:
        sentence = DEATH.format(cause)
        with self._lock:
            before = self._state
            self._pipe = None
            self._state = replace(before, phase=EnginePhase.DEAD, message=sentence, run=None, adapters=())
            orphans, self._waiting = self._waiting, {}
        if before.run is not None:
            runs.explain_interruption(before.run, sentence, engine_end.last_words(exit_code, self._log_start))
        for number, box in orphans.items():
            box.put(Event(number, EventKind.ERROR, ("EngineDied", sentence)))
        # One that died while starting would only die again; the next request tries anew.
        if before.phase is EnginePhase.READY and not self._is_closed:
            self.start()

    # Questions

    def _send(self, verb: str, args: dict[str, Any]) -> tuple[int, queue.SimpleQueue[Event]]:
        """A request on its way, and the box that its answer will be in; starts an engine where there is none."""
        self.start()
        box: queue.SimpleQueue[Event] = queue.SimpleQueue()
        with self._lock:
            pipe, number = self._pipe, next(self._numbers)
            if pipe is None:
                raise errors.EngineDied(self._state.message or "The engine was closed.")
            self._waiting[number] = box
        # Where the engine is gone, the reader finds out too and puts the cause into the box.
        with contextlib.suppress(OSError), self._sending:
            pipe.send(Request(number, verb, args))
        return number, box

    def _ask(self, verb: str, on_event: Callable[[Event], None] = lambda event: None, **args: Any) -> Any:
        number, box = self._send(verb, args)
        try:
            while (event := box.get()).kind not in ENDS:
                on_event(event)
        except BaseException:
            self._cancel(number)
            raise
        return _result(event)

    def load_base(self, name: str) -> None:
        """Change the base; the old one stays where the new one cannot be loaded."""
        self._ask("load_base", name=name)

    def list_bases(self) -> list[BaseCard]:
        return list(self._ask("list_bases"))

    def preview(self, request: RunRequest) -> RunPlan:
        plan: RunPlan = self._ask("preview", request=request)
        return plan

    def look_at_data(self, request: RunRequest, row: int | None = None) -> DataView:
        """What a run would find in its data, and the pair of `row`, or the first one."""
        view: DataView = self._ask("look_at_data", request=request, row=row)
        return view

    def start_run(self, request: RunRequest) -> str:
        """The run's name, as soon as it exists; it goes on by itself and is found in `core.runs`."""
        return str(self._ask("start_run", request=request))

    def resume_run(self, name: str) -> None:
        self._ask("resume_run", name=name)

    def stop_run(self) -> None:
        """End the run after its current step and keep what is trained."""
        self._ask("stop_run")

    def discard_run(self) -> None:
        """End the run after its current step and keep nothing of it."""
        self._ask("discard_run")

    def pause_run(self) -> None:
        self._ask("pause_run")

    def go_on_run(self) -> None:
        self._ask("go_on_run")

    def skip_trait_count(self) -> None:
        self._ask("skip_trait_count")

    def answer(
        self,
        turns: Sequence[Turn],
        decoding: Decoding,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Response]:
        """One response a turn. `on_progress(done, total)` counts tokens of the longest possible responses."""
        return list(self._ask("answer", lambda event: on_progress(*event.data), turns=list(turns), decoding=decoding))

    def stream(self, turns: Sequence[Turn], decoding: Decoding) -> Generator[Chunk, None, None]:
        """Chunks as they come; closing the iterator stops the engine at its next token."""
        number, box = self._send("stream", {"turns": list(turns), "decoding": decoding})
        is_done = False
        try:
            while (event := box.get()).kind not in ENDS:
                yield event.data
            is_done = True
            _result(event)
        finally:
            if not is_done:
                self._cancel(number)

    def _cancel(self, number: int) -> None:
        with self._lock:
            pipe = self._pipe if number in self._waiting else None
        if pipe is not None:
            with contextlib.suppress(OSError), self._sending:
                pipe.send(Request(number, "cancel", {}))

    def drift(
        self,
        adapter: str,
        rows: Sequence[tuple[Conversation, str]],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[float]:
        """How far the adapter has moved from base on base's own responses: nats a token, one figure a row.

        Of the first `MAX_DRIFT_ROWS` rows, less those that the model cannot score. `on_progress` may raise to stop.
        """
        rows, found = rows[:MAX_DRIFT_ROWS], list[float]()
        # A request a row: a chat need not wait for them all, nor a run.
        for done, row in enumerate(rows, 1):
            found += self._ask("drift", adapter=adapter, rows=[row])
            on_progress(done, len(rows))
        return found

    def check(self, adapter: str) -> CheckReport:
        report: CheckReport = self._ask("check", adapter=adapter)
        return report

    def attach(self, adapter: str) -> None:
        self._ask("attach", adapter=adapter)

    def merge(self, adapter: str, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Merged:
        """Write base and adapter as one model that plain transformers loads, and prove that it answers alike."""
        merged: Merged = self._ask("merge", lambda event: on_progress(*event.data), adapter=adapter)
        return merged


def _result(event: Event) -> Any:
    if event.kind is EventKind.RESULT:
        return event.data
    kind, sentence = event.data
    raise vars(errors).get(kind, errors.PlaygroundError)(sentence)
