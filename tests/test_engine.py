"""The engine behind its pipe: whose answer it is, what a run allows beside it, and what is left when either end dies.

Most run against an engine in a thread of this process (`in_process`); what a kill does is seen on real processes.
"""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from core import adapters, client, engine_end, paths, probe, runs
from core.client import EngineClient, EnginePhase, RunRequest, Turn
from core.errors import (
    AdapterError,
    BusyError,
    Cancelled,
    DataError,
    EngineDied,
    ModelError,
    PlaygroundError,
    RequestError,
)
from core.messages import ask
from core.planning import Planner
from core.runs import Phase, RunStatus
from core.settings import Decoding
from tests import odd_engines
from tests.in_process import start_client

DEADLINE_S = 120.0
FAST = {"learning_rate": 1e-2, "epochs": 1, "batch_size": 4, "accumulation": 1, "lora_rank": 4, "max_length": 256,
        "checkpoint_every": 2}  # fmt: skip
SHORT = Decoding(max_new_tokens=8, temperature=1.0, seed=3)
GREEDY = Decoding(max_new_tokens=8, temperature=0.0)
ENDLESS = Decoding(max_new_tokens=900, temperature=1.0)


def until(holds: Callable[[], object], what: str) -> None:
    """Wait on a condition; nothing here waits for a time to pass."""
    end = time.monotonic() + DEADLINE_S
    tick = threading.Event()
    while not holds():
        assert time.monotonic() < end, f"{what} never came"
        tick.wait(0.05)


def wanted(pairs_file: Path, method: str = "sft", **changes) -> RunRequest:
    settings = {**FAST, **changes.pop("settings", {})}
    return RunRequest(method, str(pairs_file), held_out=0, settings=settings, **changes)


def ended(name: str) -> runs.Run:
    until(lambda: not runs.read_run(name).is_alive, f"the end of {name}")
    return runs.read_run(name)


def at_step(name: str, step: int) -> None:
    until(lambda: len(runs.read_metrics(name)) >= step, f"step {step} of {name}")


def bits(name: str) -> dict[str, torch.Tensor]:
    return load_file(runs.adapter_dir(name) / adapters.WEIGHTS)


def same(a: str, b: str) -> bool:
    one, other = bits(a), bits(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def say(to: EngineClient, contender: str = "base", text: str = "Hello") -> str:
    return to.answer([Turn(contender, ask(text))], SHORT)[0].text


# In this process


@pytest.fixture(scope="module")
def resting(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Iterator[EngineClient]:
    """One engine for all that leave it as it was. Being in this process, it sees each test's own home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_HOME", str(tmp_path_factory.mktemp("home")))
        paths.ensure_home()
        started = start_client(str(tiny_model_dir), patch)
        until(lambda: started.state().phase is EnginePhase.READY, "an engine")
    yield started
    started.close()


@pytest.fixture
def near(resting: EngineClient, tiny_model_dir: Path) -> Iterator[EngineClient]:
    paths.ensure_home()
    verbs = dict(engine_of(resting).verbs)
    yield resting
    engine_of(resting).verbs = verbs
    if engine_of(resting).control is not None:
        resting.stop_run()
    until(lambda: resting.state().run is None, "an engine at rest")
    if resting.state().base != str(tiny_model_dir) or resting.state().adapters:
        resting.load_base(str(tiny_model_dir))


@pytest.fixture
def mortal(own_home: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineClient]:
    """One to be closed."""
    paths.ensure_home()
    started = start_client(str(tiny_model_dir), monkeypatch)
    yield started
    started.close()


def engine_of(near: EngineClient):
    return near._process.engine


def verb(near: EngineClient, name: str, does: Callable) -> None:
    engine_of(near).verbs[name] = does


def test_it_says_when_it_is_ready_and_on_what(near, tiny_model_dir):
    assert say(near)
    state = near.state()
    assert (state.phase, state.base, state.device) == (EnginePhase.READY, str(tiny_model_dir), "cpu")
    assert state.num_parameters > 0
    assert state.memory_bytes > 0
    assert (state.run, state.adapters) == (None, ())


@pytest.mark.parametrize("name", ["no/such/folder", "", "\x00", "nothing-here", "x" * 1000, "/etc"])
def test_a_base_that_cannot_be_loaded_leaves_the_old_one_answering(near, tiny_model_dir, name):
    before = say(near)
    with pytest.raises(ModelError) as error:
        near.load_base(name)
    assert str(error.value).endswith(".")
    assert (near.state().phase, near.state().base) == (EnginePhase.READY, str(tiny_model_dir))
    assert say(near) == before


def test_a_damaged_base_leaves_the_old_one_answering(near, tiny_mistral_dir, tmp_path):
    before = say(near)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in tiny_mistral_dir.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[: 1000 if file.suffix == ".safetensors" else None])
    with pytest.raises(PlaygroundError):
        near.load_base(str(damaged))
    assert near.state().phase is EnginePhase.READY
    assert say(near) == before


def test_an_unforeseen_error_while_loading_is_a_failed_state_and_another_base_can_be_chosen(
    tiny_model_dir, monkeypatch
):
    paths.ensure_home()
    with monkeypatch.context() as patch:
        patch.setattr("core.engine.catalogue.bring", lambda *_: {}["weights"])
        started = start_client(str(tiny_model_dir), monkeypatch)
        until(lambda: started.state().phase is EnginePhase.FAILED, "a failed state")
    assert "Something unexpected went wrong (KeyError)" in started.state().message
    with pytest.raises(RequestError, match="Something unexpected went wrong"):
        say(started)
    started.load_base(str(tiny_model_dir))
    assert say(started)
    started.close()


def test_a_base_is_changed_and_changed_back(near, tiny_model_dir, tiny_mistral_dir):
    before = say(near)
    near.load_base(str(tiny_mistral_dir))
    assert near.state().base == str(tiny_mistral_dir)
    near.load_base(str(tiny_model_dir))
    assert say(near) == before


def test_an_unforeseen_error_is_a_sentence_whose_number_the_log_knows(near, caplog):
    verb(near, "attach", lambda number, adapter: [][0])
    with pytest.raises(PlaygroundError, match=r"went wrong \(IndexError\)") as error:
        near.attach("any")
    mark = str(error.value).split()[-1].rstrip(".")
    assert len(mark) == 8
    assert mark in caplog.text
    assert "IndexError" in caplog.text
    assert "list index" not in str(error.value)
    assert say(near)


def test_errors_keep_their_kind_across_the_pipe(near):
    for kind in (AdapterError, BusyError, DataError):

        def refuse(number: int, adapter: str, kind=kind) -> None:
            raise kind("So it is.")

        verb(near, "attach", refuse)
        with pytest.raises(kind, match="So it is."):
            near.attach("any")


# Streams


def test_a_stream_adds_up_to_its_response(near):
    turns = [Turn("base", ask("One")), Turn("base", ask("Two"))]
    chunks = list(near.stream(turns, SHORT))
    for row in (0, 1):
        closing_chunk = [c for c in chunks if c.row == row and c.response is not None]
        assert len(closing_chunk) == 1
        assert "".join(c.text for c in chunks if c.row == row).strip() == closing_chunk[0].response.text


def test_closing_a_stream_stops_the_model_within_a_token(near):
    chunks = near.stream([Turn("base", ask("Go on"))], ENDLESS)
    next(chunks)
    sent = engine_of(near).send
    after: list[object] = []
    engine_of(near).send = lambda *event: (after.append(event), sent(*event))
    chunks.close()
    assert say(near)
    engine_of(near).send = sent
    # Those of the stream: what was on its way, and its end; then come those of the answer.
    stream_number = after[0][0]
    assert len([event for event in after if event[0] == stream_number]) <= 4
    assert engine_of(near).cancelled == set()


def test_a_stream_never_begun_asks_for_nothing(near):
    say(near)
    before = engine_of(near).waiting.copy()
    near.stream([Turn("base", ask("Go on"))], ENDLESS).close()
    assert engine_of(near).waiting == before


def test_whoever_stops_listening_to_an_answer_stops_the_model(near):
    def enough(done: int, total: int) -> None:
        raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        near.answer([Turn("base", ask("Go on"))], ENDLESS, enough)
    began = time.monotonic()
    assert say(near)
    assert time.monotonic() - began < 900 * 0.05
    assert near._waiting == {}


# Drift


@pytest.mark.usefixtures("short_looks")
def test_drift_is_measured_row_by_row_and_heard_of_as_it_goes(near, pairs_file):
    name = near.start_run(wanted(pairs_file))
    assert ended(name).status is RunStatus.FINISHED
    heard: list[tuple[int, int]] = []
    rows = [(ask("What is in box 3?"), "Apples."), (ask("And now?"), "Pears.")]
    found = near.drift(name, rows, lambda done, total: heard.append((done, total)))
    assert heard == [(1, 2), (2, 2)]
    assert all(value > 0 for value in found)
    assert near.drift(name, rows[::-1]) == found[::-1]
    assert near.drift(name, []) == []
    with pytest.raises(AdapterError, match="No adapter named 'gone'"):
        near.drift("gone", rows)


def test_whoever_has_heard_enough_of_drift_asks_for_no_more(near, pairs_file):
    asked: list[str] = []
    verb(near, "drift", lambda number, adapter, rows: asked.append(rows[0][1]) or [0.0])

    def enough(done: int, total: int) -> None:
        raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        near.drift("any", [(ask("Why?"), "one"), (ask("Why?"), "two")], enough)
    assert asked == ["one"]


# Many at once


@pytest.mark.usefixtures("short_looks")
def test_many_threads_never_get_each_others_answers(near, pairs_file):
    name = near.start_run(wanted(pairs_file))
    assert ended(name).status is RunStatus.FINISHED
    prompts = [f"What is in box {n}?" for n in range(6)]
    alone = {(c, p): say(near, c, p) for c in ("base", name) for p in prompts}
    assert any(alone["base", p] != alone[name, p] for p in prompts)

    def asked(job: tuple[str, str]) -> bool:
        contender, prompt = job
        if hash(job) % 2:
            return say(near, contender, prompt) == alone[job]
        with closing(near.stream([Turn(contender, ask(prompt))], SHORT)) as chunks:
            return next(c.response for c in chunks if c.response).text == alone[job]

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(asked, list(alone) * 4))
    turns = [Turn(c, ask(p)) for c, p in alone]
    assert near.answer(turns, GREEDY) == [near.answer([turn], GREEDY)[0] for turn in turns]


def test_requests_larger_than_the_pipe_never_lock_it(near):
    def echo(number: int, turns: list[Turn], decoding: Decoding) -> list[str]:
        engine_of(near).listen()
        return [turn.conversation[0].content for turn in turns]

    verb(near, "answer", echo)
    texts = [chr(97 + n) * 3_000_000 for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda text: near.answer([Turn("base", ask(text))], SHORT)[0], texts))
    assert got == texts


def test_sixty_requests_at_once_are_all_answered(near):
    with ThreadPoolExecutor(60) as pool:
        assert len(set(pool.map(lambda _: say(near), range(60)))) == 1


def test_whoever_asks_is_answered_before_a_plan_that_waited_longer(near, pairs_file):
    done: list[str] = []
    engine = engine_of(near)
    verb(near, "list_bases", lambda number: until(lambda: engine.listen() or len(engine.waiting) == 2, "both") or [])
    verb(near, "preview", lambda number, request: done.append("plan"))
    verb(near, "answer", lambda number, turns, decoding: done.append("answer") or [])
    with ThreadPoolExecutor(3) as pool:
        pool.submit(near.list_bases)
        pool.submit(near.preview, wanted(pairs_file))
        until(lambda: engine.waiting, "the plan")
        pool.submit(near.answer, [Turn("base", ask("Hello"))], SHORT)
    assert done == ["answer", "plan"]


def test_a_message_is_answered_while_a_plan_measures_the_machine(near, pairs_file, monkeypatch):
    before, costs = say(near), probe.costs
    measures, answered = threading.Event(), threading.Event()

    def hesitant(resident, between):
        def waits() -> None:
            measures.set()
            until(lambda: between() or answered.is_set(), "a message")

        return costs(resident, waits)

    monkeypatch.setattr(probe, "costs", hesitant)
    monkeypatch.setattr(engine_of(near), "planner", Planner())
    with ThreadPoolExecutor(1) as pool:
        plan = pool.submit(near.preview, wanted(pairs_file))
        assert measures.wait(DEADLINE_S)
        assert say(near) == before
        answered.set()
        assert plan.result().duration_s > 0


# Beside a run


def test_a_run_is_chatted_beside_paused_stopped_and_gone_on_with(near, pairs_file, tiny_model_dir):
    whole = near.start_run(wanted(pairs_file, "dpo"))
    assert ended(whole).status is RunStatus.FINISHED, runs.read_run(whole).reason
    name = near.start_run(wanted(pairs_file, "dpo"))
    assert near.state().run == name or runs.read_run(name).is_alive
    near.pause_run()
    until(lambda: runs.read_run(name).status is RunStatus.PAUSED, "a pause")
    with pytest.raises(BusyError) as error:
        near.start_run(wanted(pairs_file))
    since = datetime.fromisoformat(runs.read_run(name).started_at)
    sentence = f"The run '{name}' is going on since {since:%H:%M}. Stop it, or wait until it is done."
    assert str(error.value) == sentence
    with pytest.raises(BusyError, match=re.escape(sentence)):
        near.resume_run(whole)
    with pytest.raises(BusyError, match="A run is training on this base."):
        near.load_base(str(tiny_model_dir))
    assert say(near, whole)
    assert near.preview(wanted(pairs_file)).pairs == 40
    assert near.check(whole).ok
    near.go_on_run()
    at_step(name, 3)
    assert say(near)
    near.stop_run()
    stopped = ended(name)
    assert stopped.status is RunStatus.STOPPED
    assert 3 <= stopped.step < stopped.steps
    until(lambda: near.state().run is None, "an idle engine")
    with pytest.raises(RequestError, match="No run is going on."):
        near.stop_run()
    near.resume_run(name)
    assert ended(name).status is RunStatus.FINISHED
    assert same(name, whole)


def test_an_adapter_fetched_in_the_middle_of_a_run_changes_nothing_that_is_trained(near, pairs_file, tiny_model_dir):
    with_dropout = wanted(pairs_file, settings={"lora_dropout": 0.2})
    quiet = near.start_run(with_dropout)
    assert ended(quiet).status is RunStatus.FINISHED
    near.load_base(str(tiny_model_dir))
    assert near.state().adapters == ()
    busy = near.start_run(with_dropout)
    at_step(busy, 2)
    assert say(near, quiet)
    assert near.drift(quiet, [(ask("Hello"), "Good day.")])[0] > 0
    assert runs.read_run(busy).is_alive
    assert ended(busy).status is RunStatus.FINISHED
    assert same(quiet, busy)


def test_wrong_data_is_refused_before_another_base_is_loaded_for_it(near, pairs_file, tiny_mistral_dir):
    before = near.state().base
    pairs_file.write_text("{}")
    with pytest.raises(DataError, match="gives 0 usable rows"):
        near.start_run(RunRequest("dpo", str(pairs_file), model=str(tiny_mistral_dir)))
    assert near.state().base == before
    assert runs.list_runs() == []


def test_a_second_start_in_the_same_moment_is_refused(near, pairs_file):
    say(near)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(near.start_run, wanted(pairs_file)) for _ in range(2)]
        errors = [f.exception() for f in both]
    assert sorted(type(e) for e in errors if e) == [BusyError] or len(runs.list_runs()) == 2
    refused = [e for e in errors if e]
    assert len(refused) == 1
    assert len(runs.list_runs()) == 1
    near.stop_run()
    ended(runs.list_runs()[0].name)


@pytest.mark.usefixtures("short_looks")
def test_a_stop_before_the_first_step_and_one_after_the_last_end_well(near, pairs_file):
    engine = engine_of(near)
    asked = RunRequest("dpo", str(pairs_file), held_out=10, settings=FAST)
    whole = near.start_run(asked)
    assert ended(whole).status is RunStatus.FINISHED
    serve = engine._serve

    def stop_at(phase: Phase) -> str:
        def watched() -> None:
            if runs.current_run() and runs.current_run().phase == phase:
                engine.control.is_stopping = True
            serve()

        engine._serve = watched
        name = near.start_run(asked)
        done = ended(name)
        engine._serve = serve
        assert done.status is RunStatus.STOPPED, done
        return name

    shutil.rmtree(paths.logs_dir() / "logps")
    early = stop_at(Phase.REFERENCE)
    assert runs.read_run(early).reason == "Stopped before the first step."
    assert early not in runs.list_adapters()
    late = stop_at(Phase.EVALUATING)
    assert runs.read_run(late).reason == ""
    assert runs.read_run(late).step == runs.read_run(late).steps
    for name in (early, late):
        until(lambda: near.state().run is None, "an idle engine")
        near.resume_run(name)
        done = ended(name)
        assert done.status is RunStatus.FINISHED, done.reason
        assert done.result["preference_accuracy_tuned"] is not None
        assert same(name, whole)


@pytest.mark.usefixtures("short_looks")
def test_a_finished_run_is_not_resumed_and_an_unknown_one_neither(near, pairs_file):
    name = near.start_run(wanted(pairs_file))
    assert ended(name).status is RunStatus.FINISHED
    until(lambda: near.state().run is None, "an idle engine")
    with pytest.raises(RequestError) as error:
        near.resume_run(name)
    assert str(error.value) == f"The run '{name}' is finished, so there is nothing to resume. Start a new one from it."
    with pytest.raises(RequestError, match="No run named 'gone'"):
        near.resume_run("gone")
    with pytest.raises(RequestError, match="is not a usable name"):
        near.resume_run("../up")


@pytest.mark.usefixtures("short_looks")
def test_an_adapter_deleted_since_it_was_listed_is_a_sentence(near, pairs_file):
    name = near.start_run(wanted(pairs_file))
    assert ended(name).status is RunStatus.FINISHED
    listed = runs.list_adapters()
    until(lambda: near.state().run is None, "an idle engine")
    near.load_base(near.state().base)
    (runs.adapter_dir(name) / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match=f"No adapter named '{listed[0]}'. There are: none yet."):
        say(near, listed[0])
    assert say(near)


def test_a_page_that_is_gone_interrupts_a_run_with_its_work_saved(mortal, pairs_file, tiny_model_dir, monkeypatch):
    whole = mortal.start_run(wanted(pairs_file))
    assert ended(whole).status is RunStatus.FINISHED
    name = mortal.start_run(wanted(pairs_file))
    at_step(name, 3)
    mortal.close()
    gone = ended(name)
    assert gone.status is RunStatus.INTERRUPTED
    assert gone.reason == "The playground was closed while it trained. Resume goes on from where it stood."
    again = start_client(str(tiny_model_dir), monkeypatch)
    again.resume_run(name)
    assert ended(name).status is RunStatus.FINISHED
    assert same(name, whole)
    again.close()


def test_closing_waits_for_the_engine_and_nothing_more(mortal):
    say(mortal)
    began = time.monotonic()
    mortal.close()
    assert time.monotonic() - began < 5
    assert mortal._process.exitcode == 0
    with pytest.raises(EngineDied):
        say(mortal)


# Processes of their own


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def shared(module_home: Path, tiny_model_dir: Path) -> Iterator[EngineClient]:
    """One client for all that follows; its engines come and go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_HOME", str(module_home))
        paths.ensure_home()
        started = EngineClient(str(tiny_model_dir))
        started.start()
        yield started
        started.close()
        assert started._process.exitcode == 0


@pytest.fixture
def far(shared: EngineClient, module_home: Path, monkeypatch: pytest.MonkeyPatch) -> EngineClient:
    monkeypatch.setenv("PLAYGROUND_HOME", str(module_home))
    shared.start()
    until(lambda: shared.state().phase is EnginePhase.READY and shared.state().run is None, "an engine at rest")
    return shared


def again(far: EngineClient, pid: int) -> None:
    until(lambda: far._process.pid != pid and far.state().phase is EnginePhase.READY, "a new engine")


def test_an_engine_killed_at_rest_is_replaced_and_whoever_waits_is_told(far):
    before, pid = say(far), far._process.pid
    with ThreadPoolExecutor(3) as pool:
        chunks = far.stream([Turn("base", ask("Go on"))], ENDLESS)
        next(chunks)
        waiting = [pool.submit(say, far) for _ in range(2)]
        until(lambda: len(far._waiting) == 3, "two that wait")
        os.kill(pid, signal.SIGKILL)
        told = [f.exception(DEADLINE_S) for f in waiting]
        with pytest.raises(EngineDied):
            list(chunks)
    sentence = (
        "The engine ended: it was killed (SIGKILL), likely for want of memory. "
        "Runs are kept and can be resumed; what was being answered is lost."
    )
    assert [type(e) for e in told] == [EngineDied, EngineDied]
    assert {str(e) for e in told} == {sentence}
    again(far, pid)
    assert say(far) == before


@pytest.mark.parametrize(
    ("number", "cause", "last_words"),
    [
        (signal.SIGSEGV, "it crashed (SIGSEGV)", "Fatal Python error: Segmentation fault"),
        (signal.SIGABRT, "it aborted (SIGABRT)", "Fatal Python error: Aborted"),
    ],
)
def test_an_engine_that_crashes_leaves_its_last_words_in_the_log(far, number, cause, last_words):
    say(far)
    pid = far._process.pid
    chunks = far.stream([Turn("base", ask("Go on"))], ENDLESS)
    next(chunks)
    os.kill(pid, number)
    with pytest.raises(EngineDied) as error:
        list(chunks)
    assert str(error.value).startswith(f"The engine ended: {cause} in ")
    assert re.search(r" in \w+\.py, line \d+; models/logs/engine\.log says where\. Runs are kept", str(error.value))
    again(far, pid)
    assert last_words in far.log_tail(2000)
    assert say(far)


def test_an_engine_killed_in_a_run_loses_nothing_but_time(far, pairs_file):
    whole = far.start_run(wanted(pairs_file, "dpo"))
    assert ended(whole).status is RunStatus.FINISHED
    name, pid = far.start_run(wanted(pairs_file, "dpo", run="killed")), far._process.pid
    at_step(name, 5)
    os.kill(pid, signal.SIGKILL)
    again(far, pid)
    killed = runs.read_run(name)
    assert killed.status is RunStatus.INTERRUPTED
    assert killed.reason.startswith("The engine ended: it was killed (SIGKILL), likely for want of memory.")
    kept = (paths.run_dir(name) / "log.txt").read_text()
    assert f"interrupted {killed.reason} Exit code -9. The engine's log ends with:\n    " in kept
    assert far.state().run is None
    far.resume_run(name)
    assert ended(name).status is RunStatus.FINISHED
    assert same(name, whole)
    assert [row["step"] for row in runs.read_metrics(name)] == list(range(1, 11))


def test_an_engine_asked_to_end_commits_its_run_and_exits_with_0(far, pairs_file):
    name, process = far.start_run(wanted(pairs_file, run="ended")), far._process
    at_step(name, 3)
    os.kill(process.pid, signal.SIGTERM)
    again(far, process.pid)
    assert process.exitcode == 0
    terminated = runs.read_run(name)
    assert terminated.status is RunStatus.INTERRUPTED
    assert terminated.reason == "The engine was asked to end while it trained. Resume goes on from where it stood."
    assert (paths.run_dir(name) / "checkpoints" / f"step-{terminated.step:06d}" / "manifest.json").is_file()


def test_an_engine_that_floods_its_output_does_not_stall(tiny_model_dir, monkeypatch, capfd):
    loud = odd_engines.spawned(odd_engines.flooding, tiny_model_dir, monkeypatch)
    assert say(loud)
    loud.close()
    assert engine_end.log_size() > 10_000_000
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("target", "why"),
    [(odd_engines.broken, "exit code 1"), (odd_engines.mute, "exit code 3")],
)
def test_an_engine_that_cannot_start_says_so_and_is_not_started_in_a_circle(tmp_path, monkeypatch, target, why):
    dead = odd_engines.spawned(target, tmp_path, monkeypatch)
    until(lambda: dead.state().phase is EnginePhase.DEAD, "the news of its death")
    assert dead.state().message.startswith(f"The engine ended: {why}")
    pid = dead._process.pid
    with pytest.raises(EngineDied, match=why):
        say(dead)
    assert dead._process.pid != pid
    dead.close()
    assert not psutil.pid_exists(pid)


def test_an_import_error_in_the_log_is_the_reason(own_home):
    paths.ensure_home()
    engine_end.log_path().write_text("an older line\n")
    start = engine_end.log_size()
    assert engine_end.cause(1, start) == "exit code 1"
    with engine_end.log_path().open("a") as log:
        log.write(
            "Traceback (most recent call last):\n  ...\nImportError: cannot import name 'x' hf_abcdefghijklmnopqrst\n"
        )
    assert engine_end.cause(1, start) == "exit code 1, ImportError: cannot import name 'x' [redacted]"
    assert engine_end.cause(-signal.SIGSEGV, start) == "it crashed (SIGSEGV); models/logs/engine.log says where"
    assert engine_end.cause(-signal.SIGBUS, start) == "SIGBUS ended it"
    assert engine_end.cause(-signal.SIGTERM, start) == "SIGTERM ended it"
    assert engine_end.cause(-250, start) == "signal 250 ended it"
    engine_end.log_path().write_text("begun anew\n")
    assert engine_end.cause(1, start + 999) == "exit code 1, begun anew"


def test_what_an_engine_last_wrote_tells_where_it_crashed(own_home):
    paths.ensure_home()
    engine_end.log_path().write_text(
        'Current thread 0x01 (most recent call first):\n  File "/of/an/older/crash.py", line 1 in f\n'
    )
    start = engine_end.log_size()
    with engine_end.log_path().open("a") as log:
        log.write(
            'Fatal Python error: Segmentation fault\n\nThread 0x02 (most recent call first):\n  File "/a/wait.py", '
            'line 7 in wait\n\nCurrent thread 0x01 (most recent call first):\n  File "/home/me/torch/ops.py", '
            'line 12 in add\n  File "/home/me/run.py", line 3 in main\nhf_abcdefghijklmnopqrst\n'
        )
    assert engine_end.cause(-signal.SIGSEGV, start) == (
        "it crashed (SIGSEGV) in ops.py, line 12; models/logs/engine.log says where"
    )
    told = engine_end.last_words(-11, start).splitlines()
    assert told[0] == "Exit code -11. The engine's log ends with:"
    assert (told[1], told[-1]) == ("    Fatal Python error: Segmentation fault", "    [redacted]")
    assert engine_end.last_words(-9, engine_end.log_size()).splitlines()[1:] == ["    (nothing)"]


def test_the_client_names_no_engine_until_it_starts_one():
    assert client.EngineClient("any").state().phase is EnginePhase.STARTING
