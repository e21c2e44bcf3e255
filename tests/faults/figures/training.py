"""Runs that are killed, checkpoints and adapters that are damaged, disks that fill up: nothing is lost but time."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from core import paths, runs
from core.runs import RunStatus
from tests.faults.figures.figure import Figure, Tried
from tests.faults.figures.nursery import beside, child, ended, on_change, prepare, train, what_is_wrong, whole_run

METHODS = ("sft", "dpo")
MAX_KILLS = 3
FLIPS_A_CALL = 10
# Seeds are spread over a range by the golden ratio: any number of them leaves no large gap.
SPREAD = 0.6180339887


# Killed


def _kill_one(name: str, is_resumed: bool, draw: random.Random, seconds: float, changes: int) -> int:
    """Begin or go on with the run and kill it: before one of its changes of a file, or at any time."""
    at_change, after_s = draw.randrange(changes), draw.uniform(0, seconds)
    if draw.random() < 0.5:

        def until_change() -> int:
            left = [at_change]

            def count() -> None:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1

            on_change(count)
            return train(name, is_resumed)

        return ended(child(until_change))
    pid = child(lambda: train(name, is_resumed))
    killer = threading.Timer(after_s, os.kill, (pid, signal.SIGKILL))
    killer.start()
    # Not reaped before the timer is over, so that no other process has this number by then.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    killer.cancel()
    killer.join()
    return ended(pid)


def _sigkill(seed: int) -> Tried:
    from core import runner

    draw, method, name = random.Random(seed), METHODS[seed % 2], f"killed-{seed}"
    adapter, seconds, changes = whole_run(method)
    prepare(method, name)
    is_resumed, ends = False, []
    for _ in range(draw.randint(1, MAX_KILLS)):
        ends.append(_kill_one(name, is_resumed, draw, seconds, changes))
        is_resumed = True
        if runs.read_run(name).status is RunStatus.FINISHED:
            break
    if runs.read_run(name).status is not RunStatus.FINISHED:
        # Nobody but the child has written what it was doing: the parent's own number stands there until then.
        if runs.read_run(name).status is RunStatus.INTERRUPTED:
            runner.check_resumable(name)
        ends.append(ended(child(lambda: train(name, is_resumed=True))))
    wrong = what_is_wrong(name, adapter)
    shutil.rmtree(paths.run_dir(name))
    return Tried(1, (f"{method}, ended with {ends}: {wrong}",) if wrong else ())


# Damaged


@cache
def _finished() -> str:
    """A finished run with its checkpoints."""
    whole_run("dpo")
    return "whole-dpo"


def _bit_flips(seed: int) -> Tried:
    wrong = [_flip(random.Random(f"{seed}-{n}")) for n in range(FLIPS_A_CALL)]
    return Tried(FLIPS_A_CALL, tuple(filter(None, wrong)))


def _flip(draw: random.Random) -> str:
    from core import checkpoints

    newest = checkpoints.whole(paths.run_dir(_finished()) / "checkpoints")[0]
    folder = draw.choice((newest, runs.adapter_dir(_finished())))
    file = draw.choice(sorted(folder.iterdir()))
    whole = file.read_bytes()
    bit = draw.randrange(8 * len(whole))
    file.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
    try:
        is_seen = checkpoints.latest_verified(newest.parent) != newest if folder == newest else _is_refused(folder)
    finally:
        file.write_bytes(whole)
    return "" if is_seen else f"bit {bit} of {folder.name}/{file.name} was not seen"


def _is_refused(adapter: Path) -> bool:
    from core import adapters
    from core.errors import AdapterError

    try:
        adapters.verify(adapter)
    except AdapterError as error:
        return f"The adapter '{adapter.parent.name}' is damaged" in str(error)
    return False


# A disk that is full


def _disk_full(seed: int) -> Tried:
    """A run with a checkpoint goes on where there is room for a part of what it writes, and then where there is all."""
    from core import checkpoints

    name, share = f"full-{seed}", seed * SPREAD % 1
    adapter = whole_run("sft")[0]
    with _small_disk() as room:
        shutil.copytree(_begun(), paths.run_dir(name))
        root = paths.run_dir(name) / "checkpoints"
        before, size = checkpoints.latest_verified(root), checkpoints.size(root)
        with room(int(2 * share * size)):
            code = ended(child(lambda: train(name, is_resumed=True)))
        left = checkpoints.latest_verified(root)
        if before is None or left is None or left.name < before.name:
            return Tried(1, (f"with {share:.0%} of its room: the last checkpoint was lost (ended with {code})",))
        run = runs.read_run(name)
        if run.status is RunStatus.FAILED and not run.reason.endswith("the last checkpoint is kept."):
            return Tried(1, (f"with {share:.0%} of its room it said: {run.reason}",))
        if run.status is not RunStatus.FINISHED:
            ended(child(lambda: train(name, is_resumed=True)))
        wrong = what_is_wrong(name, adapter)
        shutil.rmtree(paths.run_dir(name))
    return Tried(1, (f"with {share:.0%} of its room: {wrong}",) if wrong else ())


@cache
def _begun() -> Path:
    """A run that was stopped after its second step, to be copied."""
    from core import checkpoints

    prepare("sft", "begun")
    stop_at = checkpoints.folder_for(paths.run_dir("begun") / "checkpoints", 2)

    def until_two() -> int:
        on_change(lambda: os.kill(os.getpid(), signal.SIGKILL) if stop_at.is_dir() else None)
        return train("begun", is_resumed=False)

    assert ended(child(until_two)) == -signal.SIGKILL
    return Path(shutil.copytree(paths.run_dir("begun"), paths.home() / "begun"))


@contextlib.contextmanager
def _small_disk() -> Iterator[Callable]:
    """Inside, the runs are on a disk of their own; what it gives leaves so many bytes free on it.

    Whoever may not mount one has files limited instead, each to so many bytes.
    """
    folder = paths.finetuned_dir()
    whole_run("sft"), _begun()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    try:
        yield _filled if mounted else _limited
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def _filled(free: int) -> Iterator[None]:
    ballast = paths.finetuned_dir() / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        file.truncate(max(0, file.tell() - free))
    yield
    ballast.unlink()


@contextlib.contextmanager
def _limited(most: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


FIGURES = (
    Figure(
        "sigkill", "SIGKILLs at random points of a run, up to three a run, SFT and DPO, chat going on; runs that "
        "finish with the very adapter of the uninterrupted one, every step logged once, another adapter untouched",
        "all", 200, 3, beside(_sigkill),
    ),
    Figure(
        "bit_flips", "Single-bit flips in the files of a checkpoint or an adapter, seen before anything is loaded",
        "all", 600, 30, beside(_bit_flips),
    ),
    Figure(
        "disk_full", "Sizes at which the disk is full in a save; the last good checkpoint is kept, and with room the "
        "run finishes with the very adapter of the uninterrupted one",
        "all", 60, 4, beside(_disk_full),
    ),
)  # fmt: skip
