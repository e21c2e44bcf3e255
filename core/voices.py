"""Who answers which row of a batch, and how strongly: the LoRA layers' scales, set for a while and put back.

Knows PEFT's own names alone, and nothing of adapters as the user knows them.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from peft.tuners.lora import LoraLayer

# PEFT's name of who answers a row, None for the base, and how strongly.
Voice = tuple[str | None, float]


@dataclass(frozen=True)
class _AtRest:
    """A LoRA layer, which adapters are active on it and their own scales, while nobody speaks."""

    layer: LoraLayer
    active: str | list[str]
    scaling: dict[str, float]


@contextlib.contextmanager
def speaking(
    model: torch.nn.Module, layers: Sequence[LoraLayer], voices: Sequence[Voice]
) -> Iterator[Callable[[Sequence[int]], None]]:
    """Inside, row i of every batch is answered by `voices[i]`, and all rows by a single one.

    Calling what it gives with some of those rows leaves them alone in the batch, in that order. Everything is
    as before afterwards, whatever happens: what was active, its scales, and what was in training mode.
    """
    before = [_AtRest(layer, layer._active_adapter, dict(layer.scaling)) for layer in layers]

    def keep(rows: Sequence[int]) -> None:
        if len(voices) > 1:
            _give(before, [voices[row] for row in rows])

    try:
        with _evaluating(model):
            _give(before, voices)
            yield keep
    finally:
        for rest in before:
            rest.layer._active_adapter = rest.active
            rest.layer.scaling.update(rest.scaling)


def _give(before: Sequence[_AtRest], voices: Sequence[Voice]) -> None:
    """Reckoned from the scales at rest, so that of several calls the last one holds."""
    active = sorted({name for name, _ in voices if name})
    is_one = len(set(voices)) == 1
    # Layers of equal scale share one tensor: making one for each took longer than all the rest.
    made: dict[tuple[str, float, torch.dtype], torch.Tensor] = {}
    for rest in before:
        rest.layer._active_adapter = active
        for name in rest.scaling.keys() & active:
            own = rest.scaling[name]
            if is_one:
                rest.layer.scaling[name] = own * voices[0][1]
                continue
            weight = rest.layer.lora_A[name].weight
            key = (name, own, weight.dtype)
            if key not in made:
                made[key] = _by_row(name, own, voices, weight)
            rest.layer.scaling[name] = made[key]


def _by_row(name: str, own: float, voices: Sequence[Voice], weight: torch.Tensor) -> torch.Tensor:
    """(rows, 1, 1): the adapter's scale on its own rows, 0 on all others."""
    rows = [own * strength if who == name else 0.0 for who, strength in voices]
    return torch.tensor(rows, dtype=weight.dtype, device=weight.device)[:, None, None]


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Inside, nothing of the model is in training mode; what was is so again afterwards."""
    trained = [module for module in model.modules() if module.training] if model.training else []
    try:
        _set_training(trained, False)
        yield
    finally:
        _set_training(trained, True)


def _set_training(modules: Sequence[torch.nn.Module], value: bool) -> None:
    for module in modules:
        # As torch's own constructor does. `eval` and `train`, by way of Module's `__setattr__`, took 12 ms each.
        object.__setattr__(module, "training", value)
