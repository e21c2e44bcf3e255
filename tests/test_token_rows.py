"""The order in which a run takes its rows: like lengths together, everything once, and another order each pass."""

import random

from core.token_rows import grouped_order

BATCH = 4


def batches(lengths: list[int], epoch: int = 0, seed: int = 1) -> list[list[int]]:
    order = grouped_order(lengths, BATCH, seed, epoch)
    assert sorted(order) == list(range(len(lengths)))
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def lengths_of(number: int) -> list[int]:
    return random.Random(number).choices(range(40, 600), k=number)


def test_rows_of_a_batch_are_of_like_length():
    lengths = lengths_of(1000)
    padded = sum(BATCH * max(lengths[i] for i in batch) for batch in batches(lengths))
    assert sum(lengths) <= padded < 1.05 * sum(lengths)


def test_the_order_is_the_same_for_the_same_seed_and_pass_alone():
    lengths = lengths_of(101)
    assert batches(lengths) == batches(lengths)
    assert batches(lengths) != batches(lengths, seed=2)


def test_few_rows_share_their_batches_with_others_in_the_next_pass():
    lengths = lengths_of(120)
    first, second = ({frozenset(batch) for batch in batches(lengths, epoch)} for epoch in (0, 1))
    assert len(first & second) < len(first) / 4
