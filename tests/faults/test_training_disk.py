"""A run for which there is no room: on the disk, in memory, or in a folder that may not be written any more."""

import contextlib
import errno
import gc
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from core import checkpoints, disk, history, paths, runner, runs
from core.client import RunRequest, Turn
from core.errors import RequestError
from core.loader import BASE
from core.messages import ask
from core.runs import RunStatus
from core.settings import Decoding
from tests.faults.one_run import FAST, at_step, prepared, still_talks, train, train_with, weights
from tests.in_process import start_client

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


# What a step that fails holds: much more than what else comes and goes.
BALLAST_BYTES = 400_000_000


def tensor_bytes() -> int:
    """Of all that Python can reach; what only the graph of a loss holds shows in the resident memory."""
    gc.collect()
    alive = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in alive}
    return sum(storages.values())


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_066_memory_that_runs_out_in_a_step_is_given_back_and_the_run_says_what_to_lower(
    resident, pairs_file, monkeypatch, error
):
    import core.trainer  # noqa: F401  TRL stays, once a run has brought it

    trainers, peaks = [], []

    def short(stock):
        def training_step(self, *args, **kwargs):
            trainers.append(weakref.ref(self))
            loss = stock(self, *args, **kwargs)
            if self.state.global_step == 3:
                ballast = torch.ones(BALLAST_BYTES // 8, requires_grad=True)
                self.graph = ballast.sigmoid()
                peaks.append(psutil.Process().memory_info().rss)
                raise type(error)(*error.args)
            return loss

        return training_step

    tensors, resident_set = tensor_bytes(), psutil.Process().memory_info().rss
    failed = train_with(resident, pairs_file, monkeypatch, short)
    assert failed.status is RunStatus.FAILED
    assert failed.reason == (
        "Memory ran out at step 3. Lower the batch size or max length, or turn gradient checkpointing on, and start "
        "again."
    )
    assert trainers[0]() is None
    assert tensor_bytes() <= tensors
    assert peaks[0] - resident_set > 0.9 * BALLAST_BYTES
    assert psutil.Process().memory_info().rss - resident_set < 0.25 * BALLAST_BYTES
    assert [name for name, _ in resident.model.named_parameters() if ".lora_" in name] == []
    assert still_talks(resident)
    assert train(resident, failed.name, is_resumed=True).status is RunStatus.FINISHED


def test_066_the_engine_whose_memory_ran_out_answers_and_trains_on(tiny_model_dir, pairs_file, monkeypatch):
    from transformers import Trainer

    def short(*_, **__):
        raise MemoryError

    paths.ensure_home()
    engine = start_client(str(tiny_model_dir), monkeypatch)
    asked = RunRequest("sft", str(pairs_file), held_out=0, settings=FAST)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", short)
        failed = engine.start_run(asked)
        # Answered between the steps of the run, or after it.
        assert ended(failed).reason.startswith("Memory ran out at step 0. Lower the batch size or max length")
    assert engine.answer([Turn(BASE, ask("Hello"))], Decoding(max_new_tokens=2))[0].num_tokens > 0
    assert ended(engine.start_run(asked)).status is RunStatus.FINISHED
    engine.close()


def ended(name: str) -> runs.Run:
    """The run once it is over."""
    tick = threading.Event()
    while runs.read_run(name).is_alive:
        tick.wait(0.02)
    return runs.read_run(name)


def test_086_a_run_beside_which_another_is_deleted_ends_as_it_would_have(resident, pairs_file):
    whole, other = prepared(resident, pairs_file), prepared(resident, pairs_file)
    for name in (whole, other):
        assert train(resident, name).status is RunStatus.FINISHED
    name = prepared(resident, pairs_file)

    def delete() -> None:
        with pytest.raises(RequestError, match=f"The run '{name}' is going on. Stop it, or wait until it is done."):
            history.delete(name)
        history.delete(other)

    assert train(resident, name, serve=at_step(name, 4, delete)).status is RunStatus.FINISHED
    assert {run.name for run in runs.list_runs()} == {whole, name}
    assert weights(name) == weights(whole)


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
