"""Preference pairs as token ids: what TRL's collators take, and why a pair cannot be taken."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core import ranks
from core.chat_template import ChatTemplate, PrefixError, TemplateRefusal
from core.file_rows import Reason
from core.settings import Settings
from core.transcripts import PreferencePair

# MPS compiles and keeps a graph for every shape it meets.
PAD_TO = {"mps": 64}

# Batches are cut from so many batches' rows sorted by length: on HH-RLHF 4 % of what goes through the model is then
# padding, 11 % with 8, and 61 % in a random order. Lengths are sorted as if they were up to 8 % longer than they are,
# by lot, or few rows would make the same batches in each pass.
POOL_BATCHES, NEARLY = 32, 0.08


@dataclass(frozen=True)
class TokenPair:
    """Token ids of one pair. The replies include what the template puts after them, and `num_cut` of them are cut at
    max length. Data for SFT alone has no rejected reply: its ids are empty."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    num_cut: int = 0

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def taught_length(self) -> int:
        """Tokens of the row that SFT trains on."""
        return len(self.prompt_ids) + len(self.chosen_ids)

    @property
    def shared_length(self) -> int:
        """Tokens of both replies in one row (`shared_prefix`): the last of the prompt stands before each."""
        return len(self.prompt_ids) + len(self.chosen_ids) + 1 + len(self.rejected_ids)


def tokenise(
    template: ChatTemplate,
    pairs: Sequence[PreferencePair],
    max_length: int,
    on_done: Callable[[int], None] = lambda done: None,
) -> tuple[list[TokenPair], Counter[str]]:
    """The pairs that can be trained on at `max_length` tokens, and the rest counted by reason."""
    rows: list[TokenPair] = []
    left_out: Counter[str] = Counter()
    for done, pair in enumerate(pairs, 1):
        try:
            rows.append(cut(whole(template, pair), max_length))
        except PrefixError as error:
            left_out[str(error)] += 1
        except TemplateRefusal:
            left_out[Reason.REFUSED.value] += 1
        on_done(done)
    return rows, left_out


def whole(template: ChatTemplate, pair: PreferencePair) -> TokenPair:
    """The pair at its full length; PrefixError or TemplateRefusal where the template does not take it."""
    prompt, chosen = template.pair_ids(pair.prompt, pair.chosen)
    return TokenPair(prompt, chosen, template.pair_ids(pair.prompt, pair.rejected)[1] if pair.rejected else [])


def cut(row: TokenPair, max_length: int) -> TokenPair:
    """What the collator keeps of it; PrefixError where that teaches nothing."""
    prompt, chosen, rejected = row.prompt_ids, row.chosen_ids, row.rejected_ids
    if len(prompt) >= max_length:
        raise PrefixError(Reason.PROMPT_TOO_LONG)
    room = max_length - len(prompt)
    if chosen[:room] == rejected[:room]:
        raise PrefixError(Reason.CUT_ALIKE)
    return TokenPair(prompt, chosen[:room], rejected[:room], (len(chosen) > room) + (len(rejected) > room))


def facts(rows: Sequence[TokenPair]) -> dict[str, Any]:
    """What is known of the rows before anything is trained; lengths in tokens, without what was cut."""
    chosen = [len(row.chosen_ids) for row in rows]
    rejected = [len(row.rejected_ids) for row in rows if row.rejected_ids]
    num_longer = sum(len(row.chosen_ids) > len(row.rejected_ids) for row in rows if row.rejected_ids)
    return {
        "pairs": len(rows),
        "replies": len(chosen) + len(rejected),
        "cut_replies": sum(row.num_cut for row in rows),
        "longest": max((row.length for row in rows), default=0),
        "chosen_longer": num_longer / len(rejected) if rejected else None,
        "mean_chosen": sum(chosen) / len(chosen) if chosen else None,
        "mean_rejected": sum(rejected) / len(rejected) if rejected else None,
    }


def grouped_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[int]:
    """An order for one pass in which rows of like length share a batch: a pure function of its arguments."""
    draw = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled: list[int] = torch.randperm(len(lengths), generator=draw).tolist()
    by_lot = [
        length * (1 + NEARLY * lot)
        for length, lot in zip(lengths, torch.rand(len(lengths), generator=draw).tolist(), strict=True)
    ]
    pool = batch_size * POOL_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), pool):
        near = sorted(shuffled[start : start + pool], key=lambda i: by_lot[i])
        batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    # A short batch stays last, so that every other step has the same weight.
    whole = [b for b in batches if len(b) == batch_size]
    short = [b for b in batches if len(b) < batch_size]
    order: list[int] = torch.randperm(len(whole), generator=draw).tolist()
    return [i for b in [*(whole[o] for o in order), *short] for i in b]


def filled(order: Sequence[int], batch_size: int) -> list[int]:
    """The order with its short last batch filled up by that batch's own rows, in turn: each process has some of it."""
    short = order[len(order) - len(order) % batch_size :]
    return [*order, *(short[i % len(short)] for i in range(-len(order) % batch_size))]


def num_steps(num_rows: int, settings: Settings) -> int:
    """Optimiser steps of a run: each pass is whole batches, the last possibly short."""
    at_once = settings.batch_size * ranks.count()
    return settings.epochs * math.ceil(math.ceil(num_rows / at_once) / settings.accumulation)


class GroupedSampler(torch.utils.data.Sampler[int]):
    """`grouped_order` as a sampler; resuming skips the same batches, whatever was drawn since."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, is_filled: bool = False) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.is_filled = is_filled
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + (-len(self.lengths) % self.batch_size if self.is_filled else 0)

    def __iter__(self) -> Any:
        order = grouped_order(self.lengths, self.batch_size, self.seed, self.epoch)
        return iter(filled(order, self.batch_size) if self.is_filled else order)
