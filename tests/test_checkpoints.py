"""Checkpoints: only a whole and intact one is resumed, one is always there, and a failed save costs only itself."""

import errno
import os
import re
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core import checkpoints, disk, paths, run_progress, run_request, runner, runs
from core.client import RunRequest
from core.device import Device
from core.loader import ResidentModel
from core.runs import RunStatus

FAST = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4, "accumulation": 1, "lora_rank": 4, "max_length": 256}
CPU = Device("cpu", torch.float32, "sdpa", "for tests")
FILES = {
    "adapter_model.safetensors": b"weights",
    "optimizer.pt": b"moments",
    "trainer_state.json": b'{"global_step": 1}',
}
FULL = "The disk is full, so the run could not be saved. Put that right and resume; the last checkpoint is kept."

pytestmark = pytest.mark.usefixtures("short_looks")


def crafted(root: Path, step: int) -> Path:
    """A whole checkpoint of made-up files."""
    aside = root / ".new"
    aside.mkdir(parents=True)
    for name, content in FILES.items():
        (aside / name).write_bytes(content)
    checkpoints.commit(aside, checkpoints.folder_for(root, step), {})
    return checkpoints.folder_for(root, step)


# Which one is resumed


def test_the_newest_whole_one_is_taken(tmp_path):
    assert checkpoints.latest_verified(tmp_path / "absent") is None
    for step in (20, 100, 40):
        crafted(tmp_path, step)
    found = checkpoints.latest_verified(tmp_path)
    assert found is not None
    assert checkpoints.step_of(found) == 100


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _no_optimizer(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()


def _cut(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"weig")


def _emptied(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"")


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _torn_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


def _manifest_of_nothing(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": {}}')


def _manifest_of_another_kind(folder: Path) -> None:
    (folder / "manifest.json").write_text('["files"]')


def _other_name(folder: Path) -> None:
    folder.rename(folder.with_name(f"step-{checkpoints.step_of(folder)}"))


def _folder_for_a_file(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()
    (folder / "optimizer.pt").mkdir()


@pytest.mark.parametrize(
    "spoil",
    [_empty, _no_optimizer, _cut, _emptied, _no_manifest, _torn_manifest, _manifest_of_nothing,
     _manifest_of_another_kind, _other_name, _folder_for_a_file],
)  # fmt: skip
def test_a_partial_one_is_passed_over_for_an_older_whole_one(tmp_path, spoil):
    crafted(tmp_path, 20)
    spoil(crafted(tmp_path, 40))
    assert checkpoints.latest_verified(tmp_path) == checkpoints.folder_for(tmp_path, 20)
    spoil(checkpoints.folder_for(tmp_path, 20))
    assert checkpoints.latest_verified(tmp_path) is None


def test_every_single_flipped_bit_is_seen(tmp_path):
    folder = crafted(tmp_path, 20)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for bit in range(0, len(whole) * 8, 1 if file.name != "manifest.json" else 11):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            assert not checkpoints.is_intact(folder), (file.name, bit)
        file.write_bytes(whole)
    assert checkpoints.is_intact(folder)


# A run's own


@pytest.fixture
def resident(tiny_model_dir: Path) -> ResidentModel:
    paths.ensure_home()
    return ResidentModel(tiny_model_dir, CPU)


def prepared(resident: ResidentModel, pairs_file: Path, every: int = 2) -> tuple[str, Path]:
    asked = RunRequest("sft", str(pairs_file), held_out=0, settings={**FAST, "checkpoint_every": every})
    name = run_request.prepare(resident, *run_request.check(asked)).name
    return name, paths.run_dir(name) / "checkpoints"


def steps(root: Path) -> list[int]:
    return [checkpoints.step_of(path) for path in checkpoints.whole(root)]


def test_rotation_keeps_the_newest_and_never_fewer_than_one(resident, pairs_file, monkeypatch):
    name, root = prepared(resident, pairs_file, every=1)
    kept: list[int] = []
    removed = shutil.rmtree

    def watched(path, *args, **kwargs):
        removed(path, *args, **kwargs)
        kept.append(sum(checkpoints.is_intact(p) for p in checkpoints.whole(root)))

    monkeypatch.setattr(checkpoints.shutil, "rmtree", watched)
    assert runner.execute(resident, name, run_progress.Control()).status is RunStatus.FINISHED
    assert steps(root) == [10, 9]
    assert min(kept[1:]) >= 1
    assert [p.name for p in root.iterdir() if p.name.startswith(".")] == []


def test_damaged_ones_of_a_later_step_never_push_the_newest_out(resident, pairs_file):
    name, root = prepared(resident, pairs_file)
    saved = stop_after(resident, name, 4)
    assert saved.step == 4
    for step in (8, 10):
        _cut(crafted(root, step))
    resumed = stop_after(resident, name, 1)
    assert resumed.step == 5
    assert steps(root) == [5, 4]
    assert checkpoints.latest_verified(root) == checkpoints.folder_for(root, 5)


def stop_after(resident: ResidentModel, name: str, num_steps: int) -> runs.Run:
    """Go on with the run and stop it once it has trained so many steps."""
    is_resumed = (paths.run_dir(name) / "checkpoints").exists()
    before = runs.read_run(name).step if is_resumed else 0

    def watch() -> None:
        # A step is logged after it could be stopped.
        is_training = runs.read_run(name).phase == runs.Phase.TRAINING
        control.is_stopping = is_training and len(runs.read_metrics(name)) >= before + num_steps - 1

    control = run_progress.Control(serve=watch)
    return runner.execute(resident, name, control, is_resumed)


def test_a_step_skipped_by_damage_is_trained_again_to_the_same_bits(resident, pairs_file):
    whole, root = prepared(resident, pairs_file)
    assert runner.execute(resident, whole, run_progress.Control()).status is RunStatus.FINISHED
    name, root = prepared(resident, pairs_file)
    assert stop_after(resident, name, 6).step == 6
    _no_optimizer(checkpoints.folder_for(root, 6))
    done = runner.execute(resident, name, run_progress.Control(), is_resumed=True)
    assert done.status is RunStatus.FINISHED
    assert weights(name) == weights(whole)
    assert [row["step"] for row in runs.read_metrics(name)] == list(range(1, 11))


def weights(name: str) -> bytes:
    return (runs.adapter_dir(name) / "adapter_model.safetensors").read_bytes()


# A save that fails


FAILURES = {
    "the disk is full": OSError(errno.ENOSPC, "No space left on device"),
    "torch.save on a full disk": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    "torch.save at its end": RuntimeError("basic_ios::clear: iostream error"),
    "permission was taken away": PermissionError(errno.EACCES, "Permission denied"),
    "the disk turned read-only": OSError(errno.EROFS, "Read-only file system"),
}


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
def test_a_save_that_fails_keeps_the_last_one_and_says_why(resident, pairs_file, monkeypatch, error):
    name, root = prepared(resident, pairs_file)
    stock = torch.save

    def failing(value, target, *args, **kwargs):
        if "000004" in str(target):
            Path(target).write_bytes(b"half")
            raise error
        return stock(value, target, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", failing)
        failed = runner.execute(resident, name, run_progress.Control())
    assert failed.status is RunStatus.FAILED
    took = re.sub(r" \(a checkpoint takes 0\.\d MB\)", "", failed.reason)
    assert (took != failed.reason) == disk.is_full(error)
    assert took == f"{disk.reason(error)}, so the run could not be saved. " + FULL.partition("saved. ")[2]
    assert runs.list_adapters() == []
    assert [p.name for p in root.iterdir()] == ["step-000002"]
    done = runner.execute(resident, name, run_progress.Control(), is_resumed=True)
    assert done.status is RunStatus.FINISHED, done.reason
    resident.prove_base()


def test_at_every_size_at_which_a_disk_may_fill_the_last_one_is_kept(resident, pairs_file):
    name, root = prepared(resident, pairs_file)
    assert stop_after(resident, name, 2).step == 2
    sizes = sorted(file.stat().st_size for file in checkpoints.folder_for(root, 2).iterdir())
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Smaller, and the run's status has no room either: then it is refused before it begins.
    for size in (sizes[-3] - 1, sizes[-2] - 1, sizes[-1] // 2, sizes[-1] - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))
        try:
            failed = runner.execute(resident, name, run_progress.Control(), is_resumed=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert failed.status is RunStatus.FAILED
        assert failed.reason.endswith("so the run could not be saved." + FULL.partition("saved.")[2]), failed.reason
        assert checkpoints.latest_verified(root) == checkpoints.folder_for(root, 2)
    done = runner.execute(resident, name, run_progress.Control(), is_resumed=True)
    assert done.status is RunStatus.FINISHED, done.reason


def test_a_status_that_cannot_be_written_does_not_bring_the_engine_down(resident, pairs_file, monkeypatch):
    name, _ = prepared(resident, pairs_file)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "append_metrics", full)
        stock = runs.write
        patch.setattr(runs, "write", lambda run, **changes: full() if run.step else stock(run, **changes))
        failed = runner.execute(resident, name, run_progress.Control())
    assert (failed.status, failed.reason) == (RunStatus.FAILED, FULL)
    assert runner.execute(resident, name, run_progress.Control(), is_resumed=True).status is RunStatus.FINISHED


def test_a_run_that_cannot_be_begun_leaves_nothing_behind(resident, pairs_file, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_request.preferences, "write_snapshot", full)
    with pytest.raises(OSError, match="No space left"):
        prepared(resident, pairs_file)
    assert list(paths.finetuned_dir().iterdir()) == []
    monkeypatch.setattr(run_request.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(run_request.RequestError, match="MB on disk for its checkpoints, and 0 MB are free"):
        prepared(resident, pairs_file)
    assert list(paths.finetuned_dir().iterdir()) == []


def test_what_is_no_failed_write_is_not_taken_for_one():
    assert disk.reason(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""
    assert disk.reason(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))) == ""
    assert disk.reason(ValueError("I/O error: No space left on device (os error 28)")) == "The disk is full"
