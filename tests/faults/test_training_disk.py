"""A run for which there is no room: on the disk, in memory, or in a folder that may not be written any more."""

import contextlib
import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core import checkpoints, disk, paths, runner, runs
from core.runs import RunStatus
from tests.faults.one_run import at_step, prepared, still_talks, train, train_with, weights

OUT_OF_MEMORY = {
    "CUDA": RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB"),
    "CUDA's own": torch.OutOfMemoryError("CUDA out of memory."),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 17.98 GB, other allocations: 1.5 GB)"),
    "MPS buffer": RuntimeError("Invalid buffer size: 24.00 GiB"),
    "CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "Python": MemoryError(),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_066_memory_that_runs_out_in_a_step_is_given_back_and_the_run_says_what_to_lower(
    resident, pairs_file, monkeypatch, error
):
    trainers = []

    def short(stock):
        def training_step(self, *args, **kwargs):
            trainers.append(weakref.ref(self))
            if self.state.global_step == 3:
                raise type(error)(*error.args)
            return stock(self, *args, **kwargs)

        return training_step

    failed = train_with(resident, pairs_file, monkeypatch, short)
    assert failed.status is RunStatus.FAILED
    assert failed.reason == (
        "Memory ran out at step 3. Lower the batch size or max length, or turn gradient checkpointing on, and start "
        "again."
    )
    assert trainers[0]() is None
    assert [name for name, _ in resident.model.named_parameters() if ".lora_" in name] == []
    assert still_talks(resident)
    assert train(resident, failed.name, is_resumed=True).status is RunStatus.FINISHED


def test_063_a_disk_that_is_full_to_the_last_byte_still_has_room_to_say_so(resident, pairs_file, monkeypatch):
    name = prepared(resident, pairs_file)
    room, is_full, mkstemp = paths.run_dir(name) / disk.ROOM, [], tempfile.mkstemp

    def as_on_a_full_disk(*args, **kwargs):
        if is_full and room.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return mkstemp(*args, **kwargs)

    monkeypatch.setattr(tempfile, "mkstemp", as_on_a_full_disk)
    failed = train(resident, name, serve=at_step(name, 3, lambda: is_full.append(True)))
    needed = checkpoints.size(paths.run_dir(name) / "checkpoints") / 1e6
    assert failed.reason == (
        f"The disk is full (a checkpoint takes {needed:.1f} MB), so the run could not be saved. Put that right and "
        "resume; the last checkpoint is kept."
    )
    assert (runs.read_run(name).status, runs.read_run(name).reason) == (RunStatus.FAILED, failed.reason)
    assert not room.exists()
    is_full.clear()
    assert train(resident, name, is_resumed=True).status is RunStatus.FINISHED
    assert not room.exists()


@contextlib.contextmanager
def taken_away(folder: Path) -> Iterator[None]:
    """Inside, this process may not write there."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = [path.stat().st_mode for path in folders]
    for path in folders:
        path.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # whom no mode keeps out
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path, mode in zip(folders, modes, strict=True):
            path.chmod(mode)


def test_065_a_folder_that_may_no_longer_be_written_ends_the_run_and_never_in_success(resident, pairs_file):
    name, whole = prepared(resident, pairs_file), prepared(resident, pairs_file)
    assert train(resident, whole).status is RunStatus.FINISHED
    with contextlib.ExitStack() as away:
        failed = train(resident, name, serve=at_step(name, 3, lambda: away.enter_context(taken_away(paths.home()))))
        assert failed.status is RunStatus.FAILED
        assert failed.reason == (
            "The folder may not be written, so the run could not be saved. Put that right and resume; the last "
            "checkpoint is kept."
        )
        assert not runs.settle(failed)
    # What could not be written is, as soon as it can be; until then it would pass for a run that goes on.
    assert runs.read_run(name).is_alive
    assert runs.settle(failed)
    assert runs.read_run(name).reason == failed.reason
    assert not runs.has_adapter(name)
    runner.check_resumable(name)
    assert train(resident, name, is_resumed=True).status is RunStatus.FINISHED
    assert weights(name) == weights(whole)


def test_088_whatever_step_of_a_save_is_the_last_there_is_always_a_whole_checkpoint(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    left, names = [10**6], ("rename", "mkdir", "replace", "unlink")

    def counting(stock: Callable) -> Callable:
        def does(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return stock(*args, **kwargs)

        return does

    for owner, name in [*((Path, name) for name in names), (os, "fsync"), (shutil, "rmtree")]:
        monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    monkeypatch.setattr(checkpoints, "save_policy", lambda model, folder: (folder / "weights").write_bytes(b"w"))
    trained = SimpleNamespace(
        model=None, state=SimpleNamespace(global_step=0, save_to_json=lambda path: Path(path).write_text("{}")),
        args=SimpleNamespace(device=torch.device("cpu")),
        _save_optimizer_and_scheduler=lambda folder: (Path(folder) / "optimizer.pt").write_bytes(b"o"),
        _save_rng_state=lambda folder: (Path(folder) / "rng_state.pth").write_bytes(b"r"),
    )  # fmt: skip
    killed = 0
    for at in range(60):
        root = tmp_path / str(at)
        left[0] = 10**6
        for step in (1, 2, 3):
            trained.state.global_step = step
            checkpoints.save(trained, root, {})
        left[0], trained.state.global_step = at, 4
        try:
            checkpoints.save(trained, root, {})
        except Killed:
            killed += 1
        left[0] = 10**6
        found = checkpoints.latest_verified(root)
        assert found is not None
        assert checkpoints.step_of(found) >= 3
        trained.state.global_step = 5
        checkpoints.save(trained, root, {})
        assert [path.name for path in sorted(root.iterdir())][-1] == "step-000005"
        assert [path for path in root.iterdir() if path.name.startswith(".")] == []
    assert 10 < killed < 60
