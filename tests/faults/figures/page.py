"""The real app offline, and its page reloaded and killed in the middle of a run."""

import atexit
import contextlib
import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import psutil

from core import paths
from core.runs import RunStatus
from tests.faults.figures.figure import Figure, Tried
from tests.faults.real_app import END_S, RealApp, environment, make_home, running, tiny_base, until

# Some hundred steps of a tiny model: long enough to be met on the way.
LONG = {"setting-epochs": 20}


class Kept:
    """One app that goes on from try to try; where it was killed, the next one of the same home."""

    def __init__(self) -> None:
        self.home = make_home(Path(tempfile.mkdtemp(prefix="page-")), tiny_base())
        self.stack = contextlib.ExitStack()
        self.is_open = False
        atexit.register(self.stack.close)

    def app(self) -> RealApp:
        if not self.is_open:
            self.running = self.stack.enter_context(running(self.home))
            self.running.wait_for_engine()
            self.is_open = True
        return self.running

    def kill(self) -> list[psutil.Process]:
        left = self.running.kill()
        self.is_open = False
        return left


@cache
def _kept() -> Kept:
    return Kept()


def leave_in_a_run(seed: int) -> Tried:
    """A run is begun, and its page reloaded (odd seeds) or its page's process killed (even ones)."""
    wrong: list[str] = []
    try:
        wrong = (_reload if seed % 2 else _kill)(_kept(), seed)
    except AssertionError as error:
        wrong = [str(error)]
    return Tried(1, tuple(wrong))


def _reload(kept: Kept, seed: int) -> list[str]:
    app = kept.app()
    name = app.start_run(**LONG)
    app.wait_for_step(name, 1 + seed % 20)
    found = [name in app.view(f"reload-{seed}-{number}", "run-title") for number in range(3)]
    wrong = [] if all(found) else [f"reload {found.index(False)} does not show {name}"]
    if sentence := app.call("stop").error:
        wrong.append(sentence)
    run = app.wait_for_end(name)
    return wrong if run.status in (RunStatus.STOPPED, RunStatus.FINISHED) else [*wrong, f"{name} is {run.status}"]


def _kill(kept: Kept, seed: int) -> list[str]:
    app = kept.app()
    name = app.start_run(**LONG)
    app.wait_for_step(name, 1 + seed % 20)
    before = set(app.runs())
    left = kept.kill()
    _, alive = psutil.wait_procs(left, timeout=END_S)
    wrong = [f"process {process.pid} outlives the page" for process in alive]
    gone = app.run(name)
    if gone.status is not RunStatus.INTERRUPTED or "Resume" not in gone.reason:
        wrong.append(f"{name} is {gone.status}: {gone.reason}")
    if not any((kept.home / "models" / "finetuned" / name / "checkpoints").iterdir()):
        wrong.append(f"{name} has no checkpoint")
    app = kept.app()
    shown = app.view("after")
    if name not in shown or "Interrupted" not in shown and "interrupted" not in shown:
        wrong.append(f"the next page does not show {name} as interrupted")
    if sentence := app.call("resume", "after").sentence:
        wrong.append(sentence)
    run = app.wait_for_end(name)
    if run.status is not RunStatus.FINISHED or set(app.runs()) != before:
        wrong.append(f"resumed, {name} is {run.status}, and there are {sorted(app.runs())}")
    return wrong


def stay_offline(seed: int) -> Tried:
    """Start, train, chat and compare in the app, and from the command line: whom does any process look up?"""
    home = make_home(Path(tempfile.mkdtemp(prefix="offline-")), tiny_base())
    with running(home) as app:
        app.wait_for_engine()
        name = app.start_run(**{"setting-epochs": 1})
        wrong = [] if app.wait_for_end(name).status is RunStatus.FINISHED else [f"{name} is {app.run(name).status}"]
        app.view("s")
        for shown in ("base", "tuned"):
            said = app.call("chat-send", "s", **{"chat-message": "Hello", "chat-shown": shown, "chat-adapter": name})
            wrong += [] if said.is_done and not said.sentence else [f"chat with {shown}: {said.sentence}"]
        asked = {"compare-adapter": name, "compare-max_new_tokens": 16}
        wrong += [said] if (said := app.call("compare-start", "s", **asked).sentence) else []
        until(lambda: any((home / "models" / "logs").glob("model_comparison_*.jsonl")), END_S, "a comparison")
    if seed:
        wrong += _from_the_command_line(home, name)
    return Tried(1, (*wrong, *(f"{host} was looked up" for host in app.looked_up())))


def _from_the_command_line(home: Path, adapter: str) -> list[str]:
    wrong = []
    for command in (["chat", "--adapter", adapter, "--prompt", "Hello"], ["check", "--adapter", adapter], ["runs"]):
        done = subprocess.run([sys.executable, "playground.py", *command, "--json"], cwd=paths.PROJECT_ROOT,
                              env=environment(home, {}), capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode or not json.loads(done.stdout.splitlines()[-1]):
            wrong.append(f"{command[0]}: {done.stderr}")
    return wrong


FIGURES = (
    Figure(
        "look_ups", "offline sessions (start, train, chat, compare), in which nothing but loopback is looked up",
        "0 look-ups", 5, 1, stay_offline,
    ),
    Figure(
        "reloads", "reloads of the page and kills of its process during a run: found again, resumed, no second one",
        "50 of 50", 50, 2, leave_in_a_run,
    ),
)  # fmt: skip
