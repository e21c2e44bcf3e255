"""Checkpoints of a run: written aside, flushed, hashed, renamed; only a whole one is ever resumed.

A checkpoint holds the adapter in training and nothing of any other, the optimiser, the schedule, the
trainer's state and every random state. Its manifest of hashes is written last.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from core import paths
from core.adapters import WEIGHTS, replace_folder, save_policy, sha256
from core.runs import fsync_folder

MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{6})")
KEEP = 2
MPS_STATE = "mps_rng_state.pt"


def folder_for(root: Path, step: int) -> Path:
    return root / f"step-{step:06d}"


def save(trainer: Any, root: Path) -> Path:
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
    commit(aside, final)
    for old in whole(root)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def commit(aside: Path, final: Path) -> None:
    """Flush every file, hash it, write the manifest last, and rename."""
    files = sorted(path for path in aside.iterdir() if path.is_file())
    for path in files:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    paths.write_json(aside / MANIFEST, {"files": {path.name: sha256(path) for path in files}})
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


def is_intact(checkpoint: Path) -> bool:
    manifest = paths.read_json(checkpoint / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not files:
        return False
    return all((checkpoint / n).is_file() and sha256(checkpoint / n) == h for n, h in files.items())


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
