"""Time and memory of a run before it starts: arithmetic over shapes, scaled by what this machine was seen to do.

Sources of the arithmetic: a forward pass costs 2 operations a parameter and token, a LoRA step twice that (the
base's weights get no gradient); the tensors that a layer keeps for its backward pass are counted in `_kept`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core.settings import TRAIT_MAX_NEW_TOKENS, Method, Settings
from core.token_rows import TokenPair

# Of the rate of a bare matrix product, what a pass through a whole model reaches; measured on the starter model.
EFFICIENCY = 0.45
# Interpreter and libraries, where memory is counted by process, and what the allocator keeps of its past.
PROCESS_BYTES = 1_500_000_000
# On the CPU, over the tensors alone: fitted to peaks of 6.0 GB (8 rows of some 190 tokens) and 12.4 GB (8 of 512).
ALLOCATOR_SLACK = 1.6
ADAPTER_BYTES = 16  # float32: weight, gradient, two moments
HEAD_CHUNK = 1024  # rows of logits that TRL's fused head holds at once
TIGHT_ABOVE = 0.8


@dataclass(frozen=True)
class Shape:
    """What the arithmetic needs to know of a base."""

    num_parameters: int
    num_layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    dtype_bytes: int

    @classmethod
    def of(cls, config: Any, num_parameters: int, dtype_bytes: int) -> "Shape":
        """From a transformers text configuration."""
        return cls(
            num_parameters,
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.vocab_size,
            dtype_bytes,
        )


def peak_bytes(shape: Shape, settings: Settings, num_trainable: int, longest: int, rows: int, kind: str) -> int:
    """The most memory that training takes at `rows` sequences of `longest` tokens at once."""
    tokens = longest * rows
    kept = _kept(shape)
    if settings.gradient_checkpointing:
        activations = tokens * (shape.num_layers * shape.hidden * shape.dtype_bytes + kept // shape.num_layers)
    else:
        activations = tokens * kept
    if kind == "cpu":
        activations = int(activations * ALLOCATOR_SLACK)
    head = 3 * min(HEAD_CHUNK, tokens) * shape.vocabulary * 4
    weights = shape.num_parameters * shape.dtype_bytes + num_trainable * ADAPTER_BYTES
    return weights + activations + head + (PROCESS_BYTES if kind == "cpu" else 0)


def _kept(shape: Shape) -> int:
    """Bytes a token that all layers keep for the backward pass: inputs, norms, attention and the gated product."""
    return shape.num_layers * (10 * shape.hidden + 5 * shape.intermediate) * shape.dtype_bytes


def fit(needed: int, limit: int) -> str:
    if needed > limit:
        return "won't fit"
    return "tight" if needed > TIGHT_ABOVE * limit else "fits"


def duration_s(
    method: Method,
    settings: Settings,
    shape: Shape,
    train: Sequence[TokenPair],
    held: Sequence[TokenPair],
    is_trait_counted: bool,
    rate: float,
) -> float:
    """Seconds from start to finish at `rate` operations a second of a bare matrix product."""  # fmt: skip
    both = sum(2 * len(r.prompt_ids) + len(r.chosen_ids) + len(r.rejected_ids) for r in train)
    chosen = sum(len(r.prompt_ids) + len(r.chosen_ids) for r in train)
    held_out = sum(2 * len(r.prompt_ids) + len(r.chosen_ids) + len(r.rejected_ids) for r in held)
    trained = settings.epochs * (both if method is Method.DPO else chosen)
    forward = 2 * held_out + (both if method is Method.DPO else 0)
    said = 2 * len(held) * TRAIT_MAX_NEW_TOKENS if is_trait_counted else 0
    return 2 * shape.num_parameters * (2 * trained + forward + said) / (EFFICIENCY * rate)


def matrix_rate(kind: str, dtype: torch.dtype) -> float:
    """Operations a second of a bare matrix product, measured now in some hundredths of a second."""
    a, b = (torch.ones(768, 768, dtype=dtype, device=kind) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - began)
    return 2 * 768**3 / best
