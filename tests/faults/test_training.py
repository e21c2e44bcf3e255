"""Training where something goes wrong on the way: the run says so in a sentence, and nothing that was good is lost."""

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers

from core import checkpoints, coach, disk, history, paths, run_progress, run_request, run_work, runner, runs, trainer
from core.client import RunRequest, Turn
from core.errors import AdapterError, DataError, ModelError, RequestError, SettingError
from core.evidence import Evidence
from core.generate import answer
from core.loader import BASE, ResidentModel
from core.messages import ask
from core.runs import RunStatus
from core.settings import TRAINING, Decoding, Method, Setting, Settings, Size
from tests.conftest import transcript_row

FAST = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4, "accumulation": 1, "lora_rank": 4, "max_length": 256,
        "checkpoint_every": 2, "looks": 0}  # fmt: skip
STEPS = 10


def prepared(resident: ResidentModel, pairs_file: Path, method: str = "sft", **changes) -> str:
    asked = RunRequest(method, str(pairs_file), held_out=0, settings=FAST | changes.pop("settings", {}), **changes)
    return run_request.prepare(resident, *run_request.check(asked)).name


def train(resident: ResidentModel, name: str, is_resumed: bool = False, **control) -> runs.Run:
    return runner.execute(resident, name, run_progress.Control(**control), is_resumed)


def at_step(name: str, step: int, does: Callable[[], None]) -> Callable[[], None]:
    """What a run calls between its steps: `does`, once so many steps are logged, and only then."""
    done: list[bool] = []

    def serve() -> None:
        if not done and len(runs.read_metrics(name)) >= step:
            done.append(True)
            does()

    return serve


def cut_off(resident: ResidentModel, name: str) -> Path:
    """The run as it is once its process was killed after a few steps: its checkpoints' folder."""
    control = run_progress.Control()
    control.serve = at_step(name, 4, lambda: setattr(control, "is_stopping", True))
    stopped = runner.execute(resident, name, control)
    assert stopped.status is RunStatus.STOPPED
    shutil.rmtree(runs.adapter_dir(name))
    runs.write(stopped, status=RunStatus.INTERRUPTED)
    return paths.run_dir(name) / "checkpoints"


def weights(name: str) -> bytes:
    return (runs.adapter_dir(name) / "adapter_model.safetensors").read_bytes()


def still_talks(resident: ResidentModel) -> bool:
    resident.prove_base()
    return answer(resident, [Turn(BASE, ask("Hello"))], Decoding(max_new_tokens=2))[0].num_tokens > 0


# What a run goes on from


def test_059_where_no_checkpoint_is_whole_a_run_does_not_begin_anew_in_silence(resident, pairs_file):
    name = prepared(resident, pairs_file)
    root = cut_off(resident, name)
    for folder in checkpoints.whole(root):
        (folder / "optimizer.pt").unlink()
    before = sorted(root.iterdir())
    sentence = (
        f"No checkpoint of the run '{name}' is as it was written, so it cannot go on. Start a new run from its "
        "settings, or remove its checkpoints folder: then it begins anew."
    )
    with pytest.raises(AdapterError) as error:
        runner.check_resumable(name)
    assert str(error.value) == sentence
    failed = train(resident, name, is_resumed=True)
    assert (failed.status, failed.reason) == (RunStatus.FAILED, sentence)
    assert sorted(root.iterdir()) == before
    shutil.rmtree(root)
    runner.check_resumable(name)
    assert train(resident, name, is_resumed=True).status is RunStatus.FINISHED


def _edit(name: str, **changes) -> None:
    config = runs.read_config(paths.run_dir(name) / "run.yaml")
    settings = config["settings"] | changes.pop("settings", {})
    runs.write_config(name, config | changes | {"settings": settings})


def _other_data(name: str) -> None:
    path = paths.run_dir(name) / run_request.DATA_FILE
    path.write_text(path.read_text().replace("apples", "pears", 1))


CHANGES = {
    "a setting": (
        lambda name: _edit(name, settings={"learning_rate": 2e-3}), RequestError,
        "was trained with learning_rate 0.001 so far, and now it would be 0.002. Put that back, or start a new run.",
    ),
    "the seed": (
        lambda name: _edit(name, settings={"seed": 7}), RequestError, "with seed 42 so far, and now it would be 7.",
    ),
    "the method": (
        lambda name: _edit(name, method="dpo"), RequestError, "with method sft so far, and now it would be dpo.",
    ),
    "the data": (_other_data, DataError, "The run's data has changed since it was started. Start a new run."),
    "the base": (
        lambda name: _edit(name, base_fingerprint="0" * 64), ModelError, "This run was started on",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "words"), CHANGES.values(), ids=CHANGES)
def test_061_a_run_does_not_go_on_with_anything_else_than_it_began_with(resident, pairs_file, change, kind, words):
    name = prepared(resident, pairs_file)
    root = cut_off(resident, name)
    change(name)
    with pytest.raises(kind) as error:
        run_work.read(resident, paths.run_dir(name))
    assert words in str(error.value)
    failed = train(resident, name, is_resumed=True)
    assert (failed.status, failed.reason) == (RunStatus.FAILED, str(error.value))
    assert [checkpoints.step_of(path) for path in checkpoints.whole(root)] == [5, 4]


def test_061_nor_with_other_versions_of_what_it_was_trained_with(resident, pairs_file, monkeypatch):
    name = prepared(resident, pairs_file)
    cut_off(resident, name)
    installed = run_request.versions()
    monkeypatch.setattr(run_request, "versions", lambda: installed | {"trl": "9.9"})
    with pytest.raises(RequestError) as error:
        run_work.read(resident, paths.run_dir(name))
    assert str(error.value) == (
        f"The run '{name}' was trained with trl {installed['trl']} so far, and now it would be 9.9. Put that back, or "
        "start a new run."
    )


def test_061_nor_from_an_adapter_that_has_changed_since(resident, pairs_file):
    parent = prepared(resident, pairs_file, settings={"learning_rate": 1e-2})
    assert train(resident, parent).status is RunStatus.FINISHED
    name = prepared(resident, pairs_file, "dpo", from_adapter=parent)
    cut_off(resident, name)
    assert run_work.read(resident, paths.run_dir(name)).from_adapter == parent
    history.rename(parent, "elder")
    assert run_work.read(resident, paths.run_dir(name)).from_adapter == "elder"
    history.delete("elder")
    other = prepared(resident, pairs_file, run="elder", settings={"learning_rate": 5e-3})
    assert train(resident, other).status is RunStatus.FINISHED
    with pytest.raises(AdapterError) as error:
        run_work.read(resident, paths.run_dir(name))
    assert str(error.value) == "The adapter 'elder' has changed since this run was started. Start a new run."


# Numbers that are none


@pytest.mark.parametrize("step", [4, STEPS], ids=["at a checkpoint", "at the last step"])
def test_069_a_gradient_that_is_no_number_never_gets_into_a_checkpoint_or_an_adapter(
    resident, pairs_file, monkeypatch, step
):
    stock = transformers.Trainer.training_step

    def poisoned(self, model, *args, **kwargs):
        loss = stock(self, model, *args, **kwargs)
        if self.state.global_step == step - 1:
            next(p for p in model.parameters() if p.grad is not None).grad[0] = math.nan
        return loss

    name = prepared(resident, pairs_file)
    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", poisoned)
        failed = train(resident, name)
    assert failed.status is RunStatus.FAILED
    assert failed.reason == (
        f"The weights were no longer finite after step {step}, so training stopped there. Lower the learning rate and "
        "start again; the last checkpoint is kept."
    )
    assert runs.list_adapters() == []
    kept = checkpoints.latest_verified(paths.run_dir(name) / "checkpoints")
    assert kept is not None
    assert checkpoints.step_of(kept) == step - 2
    assert still_talks(resident)
    assert train(resident, name, is_resumed=True).status is RunStatus.FINISHED


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_070_a_loss_that_is_no_number_is_never_logged_as_nought(resident, pairs_file, monkeypatch, value):
    stock = transformers.Trainer.training_step

    def poisoned(self, *args, **kwargs):
        loss = stock(self, *args, **kwargs)
        return loss * 0 + value if self.state.global_step == 2 else loss

    monkeypatch.setattr(transformers.Trainer, "training_step", poisoned)
    name = prepared(resident, pairs_file)
    failed = train(resident, name)
    assert failed.reason.startswith(f"The loss was {value} at step 3, so training stopped there.")
    assert all(row["loss"] > 0 for row in runs.read_metrics(name))
    assert trainer._arguments(Settings.of(Method.SFT, Size.SMALL), Path("x"), "cpu")["logging_nan_inf_filter"] is False


def test_071_pairs_without_a_difference_are_refused_and_a_gradient_of_nought_is_said(resident, pairs_file):
    rows = [transcript_row(n) for n in range(1, 41)]
    pairs_file.write_text("".join(json.dumps({"chosen": r["chosen"], "rejected": r["chosen"]}) + "\n" for r in rows))
    with pytest.raises(DataError) as error:
        prepared(resident, pairs_file, "dpo")
    assert "0 usable rows" in str(error.value)
    assert "chosen equals rejected" in str(error.value)
    assert runs.list_runs() == []

    def titles(norm: float, num: int) -> list[str]:
        rows = [{"step": step, "loss": 0.5, "grad_norm": norm} for step in range(1, num + 1)]
        return [card.title for card in coach.advise(Evidence(method="sft", steps=100, rows=rows))]

    assert "The pairs teach nothing" in titles(9e-8, 20)
    assert "The pairs teach nothing" not in titles(9e-8, 19) + titles(2e-7, 40)


# No room


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
    stock, trainers = transformers.Trainer.training_step, []

    def short(self, *args, **kwargs):
        trainers.append(weakref.ref(self))
        if self.state.global_step == 3:
            raise type(error)(*error.args)
        return stock(self, *args, **kwargs)

    name = prepared(resident, pairs_file)
    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", short)
        failed = train(resident, name)
    assert failed.status is RunStatus.FAILED
    assert failed.reason == (
        "Memory ran out at step 3. Lower the batch size or max length, or turn gradient checkpointing on, and start "
        "again."
    )
    assert trainers[0]() is None
    assert [name for name, _ in resident.model.named_parameters() if ".lora_" in name] == []
    assert still_talks(resident)
    assert train(resident, name, is_resumed=True).status is RunStatus.FINISHED


def test_063_a_disk_that_is_full_to_the_last_byte_still_has_room_to_say_so(resident, pairs_file, monkeypatch):
    name = prepared(resident, pairs_file)
    room, is_full, mkstemp = paths.run_dir(name) / disk.ROOM, [], tempfile.mkstemp

    def as_on_a_full_disk(*args, **kwargs):
        if is_full and room.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return mkstemp(*args, **kwargs)

    monkeypatch.setattr(tempfile, "mkstemp", as_on_a_full_disk)
    failed = train(resident, name, serve=at_step(name, 3, lambda: is_full.append(True)))
    assert failed.reason == (
        "The disk is full (a checkpoint takes 0.1 MB), so the run could not be saved. Put that right and resume; the "
        "last checkpoint is kept."
    )
    assert (runs.read_run(name).status, runs.read_run(name).reason) == (RunStatus.FAILED, failed.reason)
    assert not room.exists()
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


def test_089_the_random_state_of_mps_is_saved_and_comes_back(resident, pairs_file, monkeypatch):
    state, given = torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state)
    monkeypatch.setattr(torch.mps, "set_rng_state", given.append)
    name = prepared(resident, pairs_file)
    root = cut_off(resident, name)
    assert not (checkpoints.whole(root)[0] / checkpoints.MPS_STATE).exists()
    trained = SimpleNamespace(
        model=resident.open_policy(Settings.of(Method.SFT, Size.SMALL)),
        args=SimpleNamespace(device=SimpleNamespace(type="mps")),
        state=SimpleNamespace(global_step=9, save_to_json=lambda path: Path(path).write_text("{}")),
        _save_optimizer_and_scheduler=lambda folder: None, _save_rng_state=lambda folder: None,
    )  # fmt: skip
    saved = checkpoints.save(trained, root, {})
    monkeypatch.setattr(transformers.Trainer, "_load_rng_state", lambda self, checkpoint: None)
    trainer.ResidentSFTTrainer._load_rng_state(trained_as(trained), str(saved))
    assert [torch.equal(one, state) for one in given] == [True]
    assert checkpoints.is_intact(saved)


def trained_as(stand_in: SimpleNamespace) -> trainer.ResidentSFTTrainer:
    """A trainer of which only the arguments are there."""
    empty = object.__new__(trainer.ResidentSFTTrainer)
    empty.args = stand_in.args
    return empty


# Stop


def test_072_a_stop_is_heard_at_once_and_done_within_a_step_and_its_save(resident, pairs_file):
    """Asked for between two of the four batches of the third step."""
    name = prepared(resident, pairs_file, settings={"batch_size": 1, "accumulation": 4, "checkpoint_every": 20})
    control, visits = run_progress.Control(), []

    def serve() -> None:
        if len(runs.read_metrics(name)) == 2:
            visits.append(time.monotonic())
            control.is_stopping = len(visits) >= 2

    control.serve = serve
    stopped = runner.execute(resident, name, control)
    assert (stopped.status, stopped.step, stopped.steps) == (RunStatus.STOPPED, 3, STEPS)
    assert len(visits) == 4
    kept = checkpoints.latest_verified(paths.run_dir(name) / "checkpoints")
    assert kept is not None
    assert checkpoints.step_of(kept) == 3
    assert runner.check_resumable(name).status is RunStatus.STOPPED
    assert runs.list_adapters() == [name]


# What is refused before anything begins


WRONG = ("abc", "", math.nan, math.inf, -math.inf, -1, 0, 1e309, 10**400, 1e9, [1], {"a": 1}, True, "0x10", "1;2")
FINE = {("warmup", 0), ("lora_dropout", 0), ("looks", 0), ("seed", 0), ("seed", 1e9)}


def certainly_wrong(setting: Setting) -> list[object]:
    """Of the values above those that cannot be meant, whatever the setting; None stands for its default."""
    if setting.choices or isinstance(setting.default, bool):
        return [value for value in WRONG if value is not True and value not in setting.choices]
    return [value for value in WRONG if not isinstance(value, int | float) or (setting.name, value) not in FINE]


@pytest.mark.parametrize("setting", TRAINING.values(), ids=TRAINING)
def test_087_a_setting_out_of_range_is_named_before_anything_is_made(resident, pairs_file, setting):
    for value in certainly_wrong(setting):
        with pytest.raises(SettingError) as refusal:
            prepared(resident, pairs_file, setting.methods[-1], settings={setting.name: value})
        assert str(refusal.value) == f"{setting.label} must be {setting.range_text()}, not {str(value)[:40]!r}."
    assert runs.list_runs() == []
