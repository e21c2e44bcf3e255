"""What will not fit comes with the smallest change that makes it fit, and words for it."""

import pytest

from core.fitting import WONT_FIT, Fix, fit, smallest_fix
from core.settings import Method, Settings, Size

GB = 10**9


def settings(**changes) -> Settings:
    chosen = {"batch_size": 4, "accumulation": 2, "max_length": 512, **changes}
    return Settings.of(Method.DPO, Size.LARGE, chosen)


def needs(s: Settings) -> int:
    """2 GB whatever is asked, and 2 GB a row of 512 tokens, a quarter of it with checkpointing."""
    rows = 2 * GB * s.batch_size * s.max_length / 512
    return int(2 * GB + (rows / 4 if s.gradient_checkpointing else rows))


def fix(limit: float, is_tight: bool = False, **changes) -> Fix | None:
    return smallest_fix(settings(**changes), needs, int(limit * GB), is_tight)


@pytest.mark.parametrize(("needed", "verdict"), [(80, "fits"), (81, "tight"), (100, "tight"), (101, WONT_FIT)])
def test_verdicts(needed, verdict):
    assert fit(needed, 100) == verdict


@pytest.mark.parametrize(
    ("limit", "changes", "words"),
    [
        (7.6, {"batch_size": 2, "accumulation": 4}, "Lower the batch size from 4 to 2: then it needs 6.0 GB."),
        (5.1, {"batch_size": 1, "accumulation": 8}, "Lower the batch size from 4 to 1: then it needs 4.0 GB."),
        (
            3.9,
            {"batch_size": 2, "accumulation": 4, "gradient_checkpointing": True},
            "Lower the batch size from 4 to 2 and turn gradient checkpointing on: then it needs 3.0 GB.",
        ),
        (
            2.35,
            {"batch_size": 1, "accumulation": 8, "gradient_checkpointing": True, "max_length": 320},
            "Lower the batch size from 4 to 1, turn gradient checkpointing on and lower the max length from 512 to "
            "320: then it needs 2.3 GB.",
        ),
    ],
)
def test_the_smallest_change_that_fits(limit, changes, words):
    found = fix(limit)
    assert (found.changes, found.words) == (changes, words)


def test_what_is_tight_at_best_is_better_than_what_will_not_fit():
    assert fix(2.6).changes == {
        "batch_size": 1, "accumulation": 8, "gradient_checkpointing": True
    }  # fmt: skip
    assert fix(2.6, is_tight=True) is None or fix(2.6, is_tight=True).changes["max_length"] < 512


def test_nothing_is_proposed_where_nothing_fits():
    assert fix(1.9) is None
    assert smallest_fix(settings(), lambda s: None, 100 * GB, is_tight=False) is None


def test_a_step_keeps_its_pairs():
    for limit in (3, 5, 8):
        for batch in (3, 4, 6, 8):
            changes = fix(limit, batch_size=batch).changes
            pairs = changes.get("batch_size", batch) * changes.get("accumulation", 2)
            assert pairs == 2 * batch


def test_more_batches_than_can_be_added_up_are_not_proposed():
    found = fix(5.1, accumulation=128)
    assert found.changes == {"gradient_checkpointing": True}


def test_what_saves_memory_already_stays():
    assert fix(3.0, gradient_checkpointing=True).changes == {"batch_size": 2, "accumulation": 4}
