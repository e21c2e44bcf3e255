"""What is left of a run when one of its processes ends, hangs or stands still: seen on real processes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from core import checkpoints, client, engine_start, paths, runs, settings, standstill
from core.client import EnginePhase
from core.errors import EngineDied
from core.runs import RunStatus
from tests import odd_engines

DEADLINE_S = 120.0
CLOSED = "The playground was closed while it trained. Resume goes on from where it stood."


def until(holds: Callable[[], object], what: str) -> None:
    """Wait on a condition; nothing here waits for a time to pass."""
    end, tick = time.monotonic() + DEADLINE_S, threading.Event()
    while not holds():
        assert time.monotonic() < end, f"{what} never came"
        tick.wait(0.02)


@pytest.fixture
def page(own_home: Path, tiny_model_dir: Path, pairs_file: Path) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Opens the playground in a process group of its own, as a terminal does, with a run going on in it."""
    paths.ensure_home()
    (paths.base_dir() / paths.STARTER_NAME).symlink_to(tiny_model_dir)
    opened = []

    def opens(name: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.page", name], cwd=paths.PROJECT_ROOT, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        opened.append(process)
        before = len(runs.read_metrics(name)) if paths.run_dir(name).exists() else 0
        until(
            lambda: process.poll() is not None or paths.run_dir(name).exists() and
            len(runs.read_metrics(name)) >= before + 3, f"a step of {name}",
        )  # fmt: skip
        assert process.poll() is None, process.communicate()[0]
        return process

    yield opens
    for process in opened:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def engine_of(process: subprocess.Popen) -> psutil.Process:
    """The child that trains."""
    return psutil.Process(runs.current_run().pid)


def assert_committed(name: str) -> None:
    run = runs.read_run(name)
    assert (run.status, run.reason) == (RunStatus.INTERRUPTED, CLOSED)
    kept = checkpoints.latest_verified(paths.run_dir(name) / "checkpoints")
    assert kept is not None
    # Where it stood, and no step less: the next one that is due by the clock of `checkpoint_every` is further on.
    assert checkpoints.step_of(kept) == run.step
    assert [path for path in kept.parent.iterdir() if path.name.startswith(".")] == []


def test_075_ctrl_c_in_the_terminal_reaches_every_process_and_tears_no_save(page):
    process = page("cut")
    engine = engine_of(process)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert said.splitlines() == ["Preference Playground: http://127.0.0.1:1/", "Closing."]
    assert not engine.is_running()
    assert_committed("cut")


def test_076_an_engine_that_hangs_on_its_way_out_does_not_keep_the_page_from_ending(tiny_model_dir, monkeypatch):
    monkeypatch.setattr(client, "GRACE_S", 0.2)
    hanging = odd_engines.spawned(odd_engines.hanging, tiny_model_dir, monkeypatch)
    until(lambda: hanging.state().phase is EnginePhase.READY, "an engine")
    began = time.monotonic()
    hanging.close()
    assert time.monotonic() - began < 10
    assert hanging._process.exitcode == -signal.SIGKILL
    # That was ours, and no want of memory.
    assert "memory" not in hanging.state().message


def test_077_an_engine_that_lacks_a_library_names_it_at_once(tmp_path, monkeypatch):
    began = time.monotonic()
    dead = odd_engines.spawned(odd_engines.without_torch, tmp_path, monkeypatch)
    until(lambda: dead.state().phase is EnginePhase.DEAD, "the news of its death")
    assert time.monotonic() - began < 30
    said = dead.state().message
    assert said.startswith("The engine ended: exit code 1, ModuleNotFoundError: ")
    assert "torch" in said
    assert said.endswith("Runs are kept and can be resumed; what was being answered is lost.")
    with pytest.raises(EngineDied):
        dead.list_bases()
    dead.close()


def test_077_an_engine_that_hangs_at_its_start_is_ended_and_the_next_question_tries_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "ENGINE_SILENT_S", 2.0)
    hung = odd_engines.spawned(odd_engines.stuck, tmp_path, monkeypatch)
    process = hung._process
    with pytest.raises(EngineDied) as told:
        hung.list_bases()
    assert str(told.value) == (
        "The engine ended: it hung at its start, with nothing done for 2 s; models/logs/engine.log says where. "
        "Runs are kept and can be resumed; what was being answered is lost."
    )
    assert hung.state().message == str(told.value)
    assert process.exitcode == -signal.SIGKILL
    assert "in find_spec" in hung.log_tail(200)
    monkeypatch.setattr("core.engine_process.main", odd_engines.mute)
    with pytest.raises(EngineDied, match="The engine ended: exit code 3"):
        hung.list_bases()
    hung.close()


class Starting:
    """The pipe from an engine that says its first word after so many looks, or never, and uses what it is told to."""

    pid = os.getpid()

    def __init__(self, looks: float) -> None:
        self.looks = looks

    def poll(self, _: float) -> bool:
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize(
    ("used_a_look", "looks", "said"),
    [
        (0.01, 1000, ""),
        (0.0, 10, ""),
        (0.0, float("inf"), "it hung at its start, with nothing done for 30 s; models/logs/engine.log says where"),
        (0.5, float("inf"), "it was not ready 600 s after its start; models/logs/engine.log says where"),
    ],
    ids=["a slow disk", "a quick start", "a lock that never opens", "a circle"],
)
def test_077_a_start_may_be_slow_as_long_as_it_does_something(monkeypatch, used_a_look, looks, said):
    used = [0.0]

    def work(_) -> float:
        used[0] += used_a_look
        return used[0]

    monkeypatch.setattr(engine_start, "_worked_s", work)
    engine = Starting(looks)
    assert engine_start.hang(engine, engine) == said


def test_081_a_run_that_stood_still_goes_on_notes_it_and_reckons_without_it(own_home):
    """A whole process stops and goes on; what it does meanwhile is a phase of a run."""
    script = (
        "import time\n"
        "from core import run_progress, runs, standstill\n"
        "from core.settings import Method\n"
        "run = runs.create(Method.SFT, 'slept')\n"
        "reporter = run_progress.Reporter(run, run_progress.Control())\n"
        "with standstill.watched(reporter.stood_still):\n"
        "    reporter.phase(runs.Phase.REFERENCE, 100)\n"
        "    began = reporter.phase_began\n"
        "    print(flush=True)\n"
        "    while reporter.phase_began == began: time.sleep(0.01)\n"
        "    reporter.progress(phase_done=50)\n"
        "    print(time.monotonic() - reporter.phase_began, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=paths.PROJECT_ROOT, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGSTOP)
    # The one wait for a time: that it stands still is the matter itself.
    threading.Event().wait(standstill.NOTED_S + 1)
    process.send_signal(signal.SIGCONT)
    elapsed = float(process.communicate(timeout=DEADLINE_S)[0])
    stood = time.monotonic() - began
    assert process.returncode == 0
    assert elapsed < stood - standstill.NOTED_S
    assert "stood still for " in (paths.run_dir("slept") / "log.txt").read_text()
    assert runs.read_run("slept").eta_s is None or runs.read_run("slept").eta_s < standstill.NOTED_S


def test_081_a_clock_that_is_set_costs_nothing(monkeypatch):
    noted: list[tuple[float, float]] = []
    ticks, heard = [0.0], threading.Event()

    def tick(_: int) -> float:
        ticks[0] += standstill.TICK_S
        if ticks[0] > 1:
            heard.set()
        return ticks[0]

    monkeypatch.setattr(standstill, "TICK_S", 0.001)
    monkeypatch.setattr(time, "time", lambda: 4e9 * (1 + ticks[0]))
    monkeypatch.setattr(time, "clock_gettime", tick)
    with standstill.watched(lambda *gap: noted.append(gap)):
        assert heard.wait(DEADLINE_S)
    assert noted == []
