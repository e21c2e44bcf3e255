"""Log-probabilities of every pair under a model that does not change: what DPO holds its policy to, beside the run, and
what base and finished adapters say, for the next one.

A resumed run must start from the very same numbers, so a file that is damaged is as good as none.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from core import paths

Logps = list[tuple[float, float]]


def write(path: Path, logps: Sequence[tuple[float, float]]) -> None:
    """(chosen, rejected) a row, in one piece, with a hash of the numbers themselves."""
    tensor = torch.tensor(logps, dtype=torch.float64)
    with paths.writing(path) as aside:
        save_file({"logps": tensor}, aside, metadata={"sha256": _sha256(tensor)})


def read(path: Path, num_rows: int) -> Logps | None:
    """What was written for so many rows; None where it is absent, for others, or not as it was written."""
    try:
        with safe_open(path, "pt") as file:
            tensor, metadata = file.get_tensor("logps"), file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    if tensor.shape != (num_rows, 2) or metadata.get("sha256") != _sha256(tensor):
        return None
    return [(chosen, rejected) for chosen, rejected in tensor.tolist()]


def _sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
