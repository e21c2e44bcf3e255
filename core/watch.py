"""What a run shows on its way: at every look some held-out pairs are measured and the pinned prompts are answered.

Both only read the weights, so a run with looks trains what one without them does. Between batches and tokens they
serve what waits; a wish to stop ends a look without a result.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core import evaluate, timeline
from core.errors import Cancelled
from core.evaluate import PairLogps
from core.generate import answer
from core.loader import BASE, POLICY, ResidentModel
from core.messages import ask
from core.settings import LOOK_MAX_PAIRS, PINNED_MAX_NEW_TOKENS, Decoding
from core.token_rows import TokenPair
from core.wire import Turn

GREEDY = Decoding(max_new_tokens=PINNED_MAX_NEW_TOKENS, temperature=0.0)


def look_steps(steps: int, looks: int) -> frozenset[int]:
    """The steps after which a run of so many looks: evenly apart, the last one among them."""
    return frozenset(math.ceil(steps * n / looks) for n in range(1, looks + 1)) if looks else frozenset()


@dataclass
class Watch:
    """The looks of one run. `reference` is what DPO measures against, empty for SFT; `between` serves and raises
    Cancelled where a stop was asked for."""

    resident: ResidentModel
    run: str
    rows: Sequence[TokenPair]
    prompts: Sequence[str]
    reference: str
    beta: float
    between: Callable[[], None]
    _reference_logps: list[PairLogps] = field(default_factory=list)

    def begin(self, step: int, on_progress: Callable[[int], None]) -> None:
        """Let base answer the pinned prompts; a run that goes on at `step` keeps what it has, up to there."""
        if timeline.read(self.run).prompts == tuple(self.prompts):
            timeline.cut(self.run, step)
            return
        timeline.begin(self.run, self.prompts, self._answers(BASE, on_progress))

    def look(self, step: int) -> Mapping[str, Any]:
        """The row's part of a look after `step` steps; empty where a stop was asked for on the way."""
        try:
            figures = self._held_out_figures() if self.rows else {}
            responses = self._answers(POLICY) if self.prompts else []
        except Cancelled:
            return {}
        if not responses:
            return figures
        share = timeline.moved(timeline.read(self.run).base, responses)
        timeline.add(self.run, step, responses, share)
        return {**figures, "moved": share}

    def _answers(self, contender: str, on_progress: Callable[[int], None] = lambda done: None) -> list[str]:
        turns = [Turn(contender, ask(prompt)) for prompt in self.prompts]

        def hear(done: int, total: int) -> None:
            self.between()
            on_progress(done)

        return [response.text for response in answer(self.resident, turns, GREEDY, on_progress=hear)]

    def _held_out_figures(self) -> Mapping[str, Any]:
        rows = self.rows[:LOOK_MAX_PAIRS]
        policy = evaluate.pair_logps(self.resident, POLICY, rows, lambda done: self.between())
        if self.reference and not self._reference_logps:
            self._reference_logps = evaluate.kept_logps(
                self.resident, self.reference, rows, lambda done: self.between()
            )
        return evaluate.look_figures(policy, self._reference_logps, self.beta)
