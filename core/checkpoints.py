"""Checkpoints of a run: written aside, flushed, hashed, renamed; only a whole one is ever resumed.

A checkpoint holds the adapter in training and nothing of any other, the optimiser, the schedule, the
trainer's state and every random state. Its manifest, of hashes and of what it was trained with, is written last.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from core.adapters import WEIGHTS, read_sealed, replace_folder, save_policy, sha256, write_sealed
from core.errors import AdapterError
from core.runs import fsync_folder

MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{6})")
KEEP = 2
MPS_STATE = "mps_rng_state.pt"
NONE_INTACT = (
    "No checkpoint of the run '{}' is as it was written, so it cannot go on. Start a new run from its settings, or "
    "remove its checkpoints folder: then it begins anew."
)


def folder_for(root: Path, step: int) -> Path:
    return root / f"step-{step:06d}"


def save(trainer: Any, root: Path, made_of: Mapping[str, Any]) -> Path:
    """Write the trainer's state as `root/step-NNNNNN`, in one piece, and drop the oldest beyond `KEEP`."""
    final = folder_for(root, trainer.state.global_step)
    # Left by a run that was cut off; any of a later step is of a course that this one has left.
    for stale in (*root.glob(".*.new"), *root.glob(".*.old"), *(p for p in whole(root) if p.name > final.name)):
        shutil.rmtree(stale, ignore_errors=True)
    aside = root / f".{final.name}.new"
    aside.mkdir(parents=True)
    save_policy(trainer.model, aside)
    trainer._save_optimizer_and_scheduler(str(aside))
    trainer._save_rng_state(str(aside))
    if trainer.args.device.type == "mps":
        torch.save(torch.mps.get_rng_state(), aside / MPS_STATE)
    trainer.state.save_to_json(str(aside / "trainer_state.json"))
    commit(aside, final, made_of)
    for old in whole(root)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def commit(aside: Path, final: Path, made_of: Mapping[str, Any]) -> None:
    """Flush every file, hash it, write the manifest last, and rename."""
    files = sorted(path for path in aside.iterdir() if path.is_file())
    for path in files:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    write_sealed(aside / MANIFEST, {"made_of": dict(made_of), "files": {path.name: sha256(path) for path in files}})
    fsync_folder(aside)
    replace_folder(aside, final)


def whole(root: Path) -> list[Path]:
    """The checkpoints that have a manifest, newest first."""
    if not root.is_dir():
        return []
    found = [p for p in root.iterdir() if NAME.fullmatch(p.name) and (p / MANIFEST).is_file()]
    return sorted(found, key=lambda path: path.name, reverse=True)


def latest_verified(root: Path) -> Path | None:
    """The newest checkpoint whose every file is as it was written; None where there is none."""
    return next((path for path in whole(root) if is_intact(path)), None)


def to_resume(root: Path) -> Path | None:
    """As `latest_verified`; AdapterError where checkpoints were made and none of them is intact: begun anew, the run
    would drop what might still be mended."""
    found = latest_verified(root)
    if found is None and root.is_dir() and any(NAME.fullmatch(path.name) for path in root.iterdir()):
        raise AdapterError(NONE_INTACT.format(root.parent.name))
    return found


def made_of(root: Path) -> Mapping[str, Any]:
    """What the newest checkpoint was trained with; empty where there is none."""
    manifests = (read_sealed(path / MANIFEST) for path in whole(root))
    return next((manifest["made_of"] for manifest in manifests if manifest), {})


def size(root: Path) -> int:
    """Bytes that the newest checkpoint takes; 0 where there is none."""
    return sum(file.stat().st_size for path in whole(root)[:1] for file in path.iterdir())


def is_intact(checkpoint: Path) -> bool:
    try:
        files = read_sealed(checkpoint / MANIFEST).get("files", {})
        return bool(files) and all(sha256(checkpoint / name) == digest for name, digest in files.items())
    except OSError:  # absent, a folder, or not to be read
        return False


def step_of(checkpoint: Path) -> int:
    match = NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def load_adapter(model: Any, checkpoint: Path) -> None:
    """Put the checkpoint's weights into the adapter in training; no other adapter is touched."""
    weights = load_file(checkpoint / WEIGHTS)
    set_peft_model_state_dict(model, weights, adapter_name="default")


def load_mps_state(checkpoint: Path) -> None:
    if (checkpoint / MPS_STATE).is_file():
        torch.mps.set_rng_state(torch.load(checkpoint / MPS_STATE, weights_only=True))
