"""How fast this model goes on this machine: a few passes through the base as it lies in memory, timed.

Neither weights, gradients, adapters nor random state are touched: gradients flow back to the embedded tokens alone.
Only while no run is going on. Between two passes, whoever waits for an answer may have it.
"""

import time
from collections.abc import Callable

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


def costs(resident: ResidentModel, between: Callable[[], None] = lambda: None) -> Costs:
    """What a pass costs here now; takes a few seconds on the starter model. `between` is called before each pass."""
    with fused_head.scoring(resident.model), resident.speaking([BASE]):
        return Costs(_line(resident, _forward, FORWARD, between), _line(resident, _step, STEP, between))


def _line(
    resident: ResidentModel,
    run: Callable[[ResidentModel, torch.Tensor, int], None],
    sizes: tuple[tuple[int, int], ...],
    between: Callable[[], None],
) -> Line:
    points: list[tuple[int, float]] = []
    for rows, length in sizes:
        points.append((rows * length, _seconds(resident, run, rows, length, 1, between)))
        if len(points) > 1 and points[-1][1] > ENOUGH_S:
            break
    # Once more at the last size: what half of each row costs to score.
    half = length // 2
    more_s = _seconds(resident, run, rows, length, half, between) - points[-1][1]
    return Line.through(points, max(more_s, 0.0) / (rows * (half - 1)))


def _seconds(
    resident: ResidentModel,
    run: Callable[[ResidentModel, torch.Tensor, int], None],
    rows: int,
    length: int,
    scored: int,
    between: Callable[[], None],
) -> float:
    """The best of a few: the first pass of a shape prepares what the others find ready. Of each row, the last `scored`
    tokens have their log-probability computed."""
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
