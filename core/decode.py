"""Token after token of a batch, as transformers' `generate` chooses them, and cheaper.

Keys and values grow in place, rows that have ended leave the batch, and what may be drawn is found without sorting the
vocabulary. Knows no contenders and no text.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation import TemperatureLogitsWarper, TopPLogitsWarper

from core.lean_step import LeanStep
from core.settings import Decoding

# A smaller share of rows that have ended costs less than copying the others' keys and values.
DROP_SHARE = 1 / 8
# Nearly always more than what top_p leaves; where it is not, the whole vocabulary is sorted.
LIKELIEST = 256
# Sums of probabilities this close to top_p may round to either side of it.
ROUNDING = 1e-5


class GrowingLayer(DynamicLayer):
    """Keys and values of a layer, with room for what is to come: the stock layer copies all of them at every token."""

    keys: Any
    values: Any

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self._stored: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if not self._stored or end > self._stored[0].shape[-2]:
            self._stored = [_roomy(x, max(end, self.capacity)) for x in (key_states, value_states)]
            if start:
                self._write(0, start, self.keys, self.values)
        self._write(start, end, key_states, value_states)
        self.keys, self.values = (stored[..., :end, :] for stored in self._stored)
        return self.keys, self.values

    def _write(self, start: int, end: int, keys: Any, values: Any) -> None:
        self._stored[0][..., start:end, :] = keys
        self._stored[1][..., start:end, :] = values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        end = self.get_seq_length()
        self._stored = [stored[indices] for stored in self._stored]
        self.keys, self.values = (stored[..., :end, :] for stored in self._stored)


def _roomy(like: torch.Tensor, length: int) -> torch.Tensor:
    return like.new_empty((*like.shape[:-2], length, like.shape[-1]))


def new_cache(model: Any, capacity: int) -> DynamicCache:
    """An empty cache with room for so many tokens a row; only layers of full attention grow in place."""
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def can_drop(cache: DynamicCache) -> bool:
    """Whether rows can be taken out: layers that keep a state beside keys and values would take out half."""
    return all(type(layer) in (GrowingLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


def is_plain(cache: DynamicCache) -> bool:
    """Whether all that was read is in it: a sliding window forgets."""
    return all(type(layer) is GrowingLayer for layer in cache.layers)


class Batch:
    """Rows on their way through the model. `live` are the places that those still in it had at first."""

    def __init__(
        self, model: Any, cache: DynamicCache, ids: torch.Tensor, mask: torch.Tensor, keep: Callable[[list[int]], None]
    ) -> None:
        """`ids` (rows, new tokens) with padding on the left; `mask` (rows, cached and new tokens).

        `keep` hears which of the first rows are left, before the next pass.
        """
        self.model = model
        self.cache = cache
        self.ids = ids
        self.mask = mask
        self.keep = keep
        self.live = list(range(len(ids)))
        self._positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        self._is_padded = not bool(mask.all())
        self._can_drop = can_drop(cache)
        self._can_be_lean = LeanStep.fits(model) and is_plain(cache)
        self._lean: LeanStep | None = None

    @torch.inference_mode()
    def logits(self) -> torch.Tensor:
        """float32, (live rows, vocabulary): what follows on each row's last token."""
        if self._lean is not None:
            mask = self.mask[:, None, None].bool() if self._is_padded else None
            return self._lean(self.ids, mask, self._positions, self.cache).float()
        known = inspect.signature(type(self.model).forward).parameters
        named = {"position_ids": self._positions, "logits_to_keep": 1}
        out = self.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
            **{name: value for name, value in named.items() if name in known},
        )
        return out.logits[:, -1].float()

    @torch.inference_mode()
    def feed(self, tokens: torch.Tensor, ended: Sequence[bool]) -> None:
        """Take in the live rows' next tokens (rows,), and let go of those that have ended where that pays."""
        self.ids = tokens[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self._positions = self._positions[:, -1:] + 1
        does_drop = self._can_drop and sum(ended) >= max(1, DROP_SHARE * len(ended))
        if does_drop:
            self._drop([i for i, has_ended in enumerate(ended) if not has_ended])
        if self._can_be_lean and (does_drop or self._lean is None):
            self._lean = LeanStep(self.model)

    def _drop(self, rest: list[int]) -> None:
        self.live = [self.live[i] for i in rest]
        chosen = torch.tensor(rest, device=self.ids.device)
        self.ids, self.mask, self._positions = self.ids[chosen], self.mask[chosen], self._positions[chosen]
        self.cache.batch_select_indices(chosen)
        self._is_padded = not bool(self.mask.all())
        self.keep(self.live)


class Chooser:
    """The next token of every live row, the one that `generate` would choose with all rows still in the batch."""

    def __init__(self, decoding: Decoding, num_rows: int) -> None:
        self.num_rows = num_rows
        self.is_greedy = decoding.temperature <= 0
        self.top_p = decoding.top_p
        self._warm = TemperatureLogitsWarper(decoding.temperature) if not self.is_greedy else None

    @torch.inference_mode()
    def __call__(self, logits: torch.Tensor, live: list[int]) -> torch.Tensor:
        """Tokens (live rows,) for logits (live rows, vocabulary)."""
        if self._warm is None:
            return logits.argmax(dim=-1)
        scores = self._warm(None, logits)
        if self.top_p < 1:
            scores = likeliest(scores, self.top_p)
        return draw(scores.softmax(dim=-1), live, self.num_rows)


def likeliest(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """TopPLogitsWarper's result, from the largest few scores where those are enough to be certain of it."""
    top, places = scores.topk(min(LIKELIEST, scores.shape[-1]))
    shares = (top - scores.logsumexp(dim=-1, keepdim=True)).exp()
    before = shares.cumsum(dim=-1) - shares
    kept = before < top_p
    kept[:, 0] = True
    is_tied = (top[:, :-1] == top[:, 1:]) & (kept[:, :-1] != kept[:, 1:])
    if kept[:, -1].any() or is_tied.any() or ((before - top_p).abs() < ROUNDING).any():
        return TopPLogitsWarper(top_p)(None, scores)
    return torch.full_like(scores, -torch.inf).scatter(1, places, top.masked_fill(~kept, -torch.inf))


def draw(probabilities: torch.Tensor, live: list[int], num_rows: int) -> torch.Tensor:
    """What `torch.multinomial` draws for the live rows where all `num_rows` rows are drawn for.

    It takes the largest quotient of probability and an exponential number, and draws such a number for every word of
    every row. On the CPU they are made of uniform ones as torch makes them, where there is a probability alone.
    """
    shape, device = (num_rows, probabilities.shape[1]), probabilities.device
    if device.type != "cpu":
        return (probabilities / _exponential(shape, device)[live]).argmax(dim=-1)
    uniform = torch.empty(shape, dtype=torch.float64).uniform_()
    possible = probabilities > 0
    exponential = -torch.log1p(-(uniform if len(live) == num_rows else uniform[live])[possible])
    quotients = torch.zeros_like(probabilities)
    quotients[possible] = probabilities[possible] / exponential.float()
    return quotients.argmax(dim=-1)


def _exponential(shape: tuple[int, int], device: torch.device) -> torch.Tensor:
    """MPS draws a nought now and then, and nought by nought is no number, which is the largest of all."""
    return torch.empty(shape, device=device).exponential_().clamp_(min=torch.finfo(torch.float32).tiny)
