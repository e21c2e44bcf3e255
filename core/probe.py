"""How fast this model goes on this machine: a few passes through the base as it lies in memory, timed.

Neither weights, gradients, adapters nor random state are touched: gradients flow back to the embedded tokens alone.
Only while no run is going on. Between two passes, whoever waits for an answer may have it.
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from core import fused_head
from core.forecast import Costs, Line
from core.loader import BASE, ResidentModel

# (rows, tokens a row): two passes say what a pass and a token cost, the second as long as rows are; where both are over
# at once, as on a large GPU, a larger one says it better.
FORWARD = ((1, 2), (1, 256), (8, 256))
STEP = ((1, 16), (1, 256), (8, 256))
ENOUGH_S = 0.1
REPEATS = 2

# Tokens (rows, length) go through the model; of each row, the last so many have their log-probability computed.
Pass = Callable[[ResidentModel, torch.Tensor, int], None]


def costs(resident: ResidentModel, between: Callable[[], None] = lambda: None) -> Costs:
    """What a pass costs here now; takes a few seconds on the starter model. `between` is called before each pass."""
    seconds = partial(_seconds, resident, between)
    with fused_head.scoring(resident.model), resident.speaking([BASE]):
        return Costs(_line(partial(seconds, _forward), FORWARD), _line(partial(seconds, _step), STEP))


def _line(seconds: Callable[[int, int, int], float], sizes: tuple[tuple[int, int], ...]) -> Line:
    """`seconds(rows, length, scored)` times a pass."""
    points: list[tuple[int, float]] = []
    for rows, length in sizes:
        points.append((rows * length, seconds(rows, length, 1)))
        if len(points) > 1 and points[-1][1] > ENOUGH_S:
            break
    # Once more at the last size: what half of each row costs to score.
    half = length // 2
    more_s = seconds(rows, length, half) - points[-1][1]
    return Line.through(points, max(more_s, 0.0) / (rows * (half - 1)))


def _seconds(
    resident: ResidentModel, between: Callable[[], None], run: Pass, rows: int, length: int, scored: int
) -> float:
    """The best of a few: the first pass of a shape prepares what the others find ready."""
    vocabulary = resident.model.config.get_text_config().vocab_size
    ids = torch.arange(rows * length, device=resident.device.kind).view(rows, length) * 7 % vocabulary
    best = float("inf")
    for _ in range(REPEATS):
        between()
        began = time.perf_counter()
        run(resident, ids, scored)
        best = min(best, time.perf_counter() - began)
    return best


@torch.no_grad()
def _forward(resident: ResidentModel, ids: torch.Tensor, scored: int) -> None:
    _score(resident, ids, scored, {"input_ids": ids}).item()  # waits for the device


def _step(resident: ResidentModel, ids: torch.Tensor, scored: int) -> None:
    embedded = resident.model.get_input_embeddings()(ids).detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(_score(resident, ids, scored, {"inputs_embeds": embedded}), embedded)
    gradient.sum().item()


def _score(resident: ResidentModel, ids: torch.Tensor, scored: int, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The summed log-probability of each row's last tokens, as a reply after its prompt."""
    labels = ids.clone()
    labels[:, :-scored] = -100
    out = resident.model(**inputs, labels=labels, fused_lm_head=True, use_cache=False)
    total: torch.Tensor = out.log_probs.sum()
    return total
