"""The process that owns the weights: one thread, one model, one request at a time.

While a run goes on, requests are served between its micro-steps, each whole before training goes on. Where the page's
end of the pipe closes, a run commits its checkpoint and the process ends.
"""

import signal
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from core import (
    awake,
    catalogue,
    device,
    engine_errors,
    evaluate,
    generate,
    inspection,
    lens,
    locks,
    paths,
    queue_order,
    run_progress,
    run_request,
    run_work,
    runner,
    runs,
    takeaway,
    wire,
)
from core.errors import BusyError, Cancelled, PlaygroundError, RequestError
from core.loader import ResidentModel
from core.messages import Conversation
from core.planning import Planner
from core.redact import api_key, redact
from core.runs import Run, RunStatus
from core.settings import Decoding

PAGE_GONE = "The playground was closed while it trained. Resume goes on from where it stood."
GOES_ON = "The run '{}' is going on since {}. Stop it, or wait until it is done."
TERMINATED = "The engine was asked to end while it trained. Resume goes on from where it stood."


class Engine:
    """Requests in, events out. `serve_forever` returns when the page is gone."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.resident: ResidentModel | None = None
        self.state = wire.EngineState()
        self.waiting: deque[wire.Request] = deque()
        self.cancelled: set[int] = set()
        self.control: run_progress.Control | None = None
        self.ended: Run | None = None
        self.is_closing = ""
        self.planner = Planner()
        self.verbs: dict[str, Callable[..., Any]] = {
            "load_base": self.load_base,
            "list_bases": self.list_bases,
            "preview": self.preview,
            "look_at_data": self.look_at_data,
            "merge": self.merge,
            "answer": self.answer,
            "stream": self.stream,
            "drift": self.drift,
            "check": self.check,
            "attach": self.attach,
        }
        # These answer for themselves, before the run that they begin.
        self.run_verbs = {"start_run": self.start_run, "resume_run": self.resume_run}
        # Answered at once, even in the middle of a response.
        self.wishes: dict[str, Callable[[run_progress.Control], None]] = {
            "stop_run": lambda control: setattr(control, "is_stopping", True),
            "discard_run": lambda control: control.discard(),
            "pause_run": lambda control: setattr(control, "is_paused", True),
            "go_on_run": lambda control: setattr(control, "is_paused", False),
            "skip_trait_count": lambda control: setattr(control, "is_trait_skipped", True),
        }
        signal.signal(signal.SIGTERM, lambda *_: self.close(TERMINATED))

    # The pipe

    def serve_forever(self) -> None:
        self.send(0, wire.EventKind.HELLO, None)
        while not self.is_closing:
            self._handle_all()
            if self.ended and runs.settle(self.ended):
                self.ended = None
            if self.pipe.poll(0.5):
                self.listen()

    def listen(self) -> None:
        """Take in whatever has come, without waiting; cancellations and wishes are heard at once."""
        try:
            while not self.is_closing and self.pipe.poll():
                self._take(self.pipe.recv())
        except (EOFError, OSError):
            self.close(PAGE_GONE)

    def close(self, why: str) -> None:
        self.is_closing = self.is_closing or why
        if self.control is not None:
            self.control.interruption = self.is_closing
            self.control.is_stopping = True

    def _take(self, request: wire.Request) -> None:
        if request.verb == "cancel":
            self.cancelled.add(request.number)
        elif request.verb == "close":
            self.close(PAGE_GONE)
        elif request.verb in self.wishes:
            self._grant(request)
        else:
            self.waiting.append(request)

    def _grant(self, request: wire.Request) -> None:
        if self.control is None:
            self.fail(request.number, RequestError("No run is going on."))
            return
        self.wishes[request.verb](self.control)
        self.send(request.number, wire.EventKind.RESULT, None)

    def send(self, number: int, kind: wire.EventKind, data: Any) -> None:
        try:
            self.pipe.send(wire.Event(number, kind, data))
        except OSError:
            self.close(PAGE_GONE)

    def fail(self, number: int, error: PlaygroundError) -> None:
        # The other end knows the kinds of core/errors.py alone.
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == PlaygroundError.__module__)
        self.send(number, wire.EventKind.ERROR, (kind.__name__, redact(str(error))))

    def tell(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.send(0, wire.EventKind.STATE, self.state)

    # One request

    def _handle_all(self, choose: Callable[[deque[wire.Request]], wire.Request | None] = queue_order.next_of) -> None:
        """Do what waits, one after another, as long as there is one to choose."""
        while not self.is_closing and (request := choose(self.waiting)):
            self.waiting.remove(request)
            self.handle(request)

    def _let_talk(self) -> None:
        """What a plan calls while it measures."""
        self.listen()
        self._handle_all(queue_order.next_talk)
        if self.is_closing:
            raise Cancelled(self.is_closing)

    def handle(self, request: wire.Request) -> None:
        """Do it and send its end: a result, or an error as a sentence."""
        if request.number in self.cancelled:
            self.cancelled.discard(request.number)
            self.fail(request.number, Cancelled("It was cancelled before its turn came."))
            return
        try:
            self._do(request)
        except PlaygroundError as error:
            self.fail(request.number, error)
        except Exception as error:  # the edge of a request: recorded here, a sentence there
            self.fail(request.number, engine_errors.in_words(error))
        self.cancelled.discard(request.number)

    def _do(self, request: wire.Request) -> None:
        if request.verb in self.run_verbs:
            if self.control is not None:
                raise BusyError(GOES_ON.format(self.state.run, runs.since(runs.read_run(str(self.state.run)))))
            with locks.training():
                self.run_verbs[request.verb](request)
            return
        if request.verb == "load_base" and self.control is not None:
            raise BusyError("A run is training on this base. Stop it before you change the base.")
        self.send(request.number, wire.EventKind.RESULT, self.verbs[request.verb](request.number, **request.args))

    def loaded(self) -> ResidentModel:
        if self.resident is None:
            raise RequestError(self.state.message or "No base is loaded yet.")
        return self.resident

    def _is_stopped(self, number: int) -> bool:
        self.listen()
        return bool(self.is_closing) or number in self.cancelled

    # Bases and adapters

    def load_base(self, number: int, name: str) -> None:
        before = self.state
        try:
            name = catalogue.full_name(name)
            folder = catalogue.bring(name, api_key("HUGGINGFACE_TOKEN"), self._progress)
            self.tell(phase=wire.EnginePhase.LOADING, message=f"Loading {name}", progress=None)
            chosen = device.choose(catalogue.num_parameters(folder))
            resident = ResidentModel(folder, chosen, name)
        except Exception as error:
            sentence = error if isinstance(error, PlaygroundError) else engine_errors.in_words(error)
            # The base that was there before still answers.
            failed = replace(self.state, phase=wire.EnginePhase.FAILED, message=str(sentence), progress=None)
            self.state = before if self.resident is not None else failed
            self.tell()
            raise sentence from error
        self.resident = resident
        device.release(chosen.kind)
        self.planner.forget()
        self.tell(
            phase=wire.EnginePhase.READY, message="", progress=None, base=name, device=chosen.kind,
            dtype=chosen.dtype_name, reason=resident.reason, num_parameters=resident.num_parameters,
            memory_bytes=resident.memory_bytes, adapters=(),
        )  # fmt: skip

    def _progress(self, message: str, share: float | None) -> None:
        self.tell(phase=wire.EnginePhase.FETCHING, message=message, progress=share)

    def list_bases(self, number: int) -> list[wire.BaseCard]:
        return self.planner.cards()

    def attach(self, number: int, adapter: str) -> None:
        self.loaded().attach(adapter)
        self.tell(adapters=self.loaded().adapters)

    def merge(self, number: int, adapter: str) -> wire.Merged:
        def told(done: int, total: int) -> None:
            self.send(number, wire.EventKind.PROGRESS, (done, total))
            if self._is_stopped(number):
                raise Cancelled("The merging was stopped, and nothing of it was kept.")

        merged = takeaway.merge(self.loaded(), adapter, told)
        self.tell(adapters=self.loaded().adapters)
        return merged

    def check(self, number: int, adapter: str) -> wire.CheckReport:
        report = inspection.check(self.loaded(), adapter)
        self.tell(adapters=self.loaded().adapters)
        return report

    # Responses

    def _ready_for(self, turns: list[wire.Turn]) -> ResidentModel:
        resident = self.loaded()
        for contender in {turn.contender for turn in turns} - {"base"}:
            # One that was deleted or renamed since may still be in memory.
            if contender not in resident.adapters or not runs.has_adapter(contender):
                self.attach(0, contender)
        if self.control is None and resident.trim({turn.contender for turn in turns}):
            self.tell(adapters=resident.adapters)
        return resident

    def answer(self, number: int, turns: list[wire.Turn], decoding: Decoding) -> list[wire.Response]:
        return generate.answer(
            self._ready_for(turns),
            turns,
            decoding,
            lambda: self._is_stopped(number),
            lambda done, total: self.send(number, wire.EventKind.PROGRESS, (done, total)),
        )

    def stream(self, number: int, turns: list[wire.Turn], decoding: Decoding) -> None:
        def emit(chunk: wire.Chunk) -> None:
            self.send(number, wire.EventKind.CHUNK, chunk)

        generate.stream(self._ready_for(turns), turns, decoding, emit, lambda: self._is_stopped(number))

    def drift(self, number: int, adapter: str, rows: list[tuple[Conversation, str]]) -> list[float]:
        resident = self._ready_for([wire.Turn(adapter, conversation) for conversation, _ in rows])
        return evaluate.drift(resident, adapter, rows)

    # Runs

    def preview(self, number: int, request: wire.RunRequest) -> wire.RunPlan:
        return self.planner.plan(self.loaded(), request, self.control is not None, self._let_talk)

    def look_at_data(self, number: int, request: wire.RunRequest, row: int | None) -> wire.DataView:
        return lens.look(self.loaded(), request, row)

    def start_run(self, request: wire.Request) -> None:
        asked, data = run_request.check(request.args["request"], api_key("HUGGINGFACE_TOKEN"))
        self._choose_base(request.number, asked.model)
        run = run_request.prepare(self.loaded(), asked, data)
        self.send(request.number, wire.EventKind.RESULT, run.name)
        self._execute(run.name, is_resumed=False)

    def resume_run(self, request: wire.Request) -> None:
        name = request.args["name"]
        run = runner.check_resumable(name)
        model = str(runs.read_config(paths.run_dir(name) / "run.yaml").get("model", ""))
        self._choose_base(request.number, model)
        run_work.read(self.loaded(), paths.run_dir(name))
        # Whoever asked looks at the run next, and must not find its last end there.
        runs.write(run, status=RunStatus.QUEUED, reason="", started_at=runs.now())
        self.send(request.number, wire.EventKind.RESULT, None)
        self._execute(name, is_resumed=True)

    def _choose_base(self, number: int, model: str) -> None:
        if model and (self.resident is None or catalogue.full_name(model) != self.resident.name):
            self.load_base(number, model)

    def _execute(self, name: str, is_resumed: bool) -> None:
        """Do the run, and the one that is to follow on it."""
        following: Run | None = None
        self.control = run_progress.Control(serve=self._serve)
        self.tell(run=name)
        try:
            self.ended = run = runner.execute(self.loaded(), name, self.control, is_resumed)
            awake.notify(f"{name}: {run.status}", run.reason)
            following = runner.next_of(self.loaded(), run)
        finally:
            self.control = None
            self.tell(run=None, adapters=self.loaded().adapters)
        if following and not self.is_closing:
            self._execute(following.name, is_resumed=False)

    def _serve(self) -> None:
        """What a run calls between its micro-steps."""
        self.listen()
        self._handle_all()
