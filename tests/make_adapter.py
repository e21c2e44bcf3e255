"""Adapters for tests without training: random weights, written as a run writes its own; and what can befall them."""

import json
from pathlib import Path

import torch

from core import adapters, paths
from core.loader import ResidentModel
from core.settings import Method, Settings, Size


def make_adapter(resident: ResidentModel, name: str, seed: int = 1, scale: float = 0.5, **settings: object) -> Path:
    """The folder of a new adapter; `scale` 0 makes one that changes nothing."""
    chosen = Settings.of(Method.DPO, Size.SMALL, {"lora_rank": 4, "lora_alpha": 8, "seed": seed, **settings})
    policy = resident.open_policy(chosen)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, weight in policy.named_parameters():
            if ".lora_B.default." in key:
                weight.copy_(scale * torch.randn(weight.shape, generator=draw))
    folder = paths.run_dir(name) / "adapter"
    folder.parent.mkdir(parents=True, exist_ok=True)
    provenance = {"run": name, "model": resident.name, "base_fingerprint": resident.fingerprint}
    adapters.write(policy, folder, provenance, f"# {name}\n")
    resident.close_policy()
    return folder


def unsealed(folder: Path) -> Path:
    """The adapter as if made elsewhere: without hashes, so that its contents alone are judged."""
    (folder / adapters.MANIFEST).unlink()
    return folder


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / adapters.CONFIG).read_text())
    (folder / adapters.CONFIG).write_text(json.dumps({**config, **changes}))
