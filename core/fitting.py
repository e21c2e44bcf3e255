"""Whether a need of memory fits, and the smallest change of settings that makes it fit.

What changes the result least comes first: fewer rows at once with as many more batches added up, then activations
computed twice, and last of all shorter rows.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from core.settings import TRAINING, Settings

TIGHT_ABOVE = 0.8
WONT_FIT = "won't fit"
SHORTEST = 128
SHORTER_BY = 64
NOTHING_FITS = "Neither a smaller batch, nor gradient checkpointing, nor a shorter max length makes it fit."

# What a run with these settings needs; None where it could not be started.
Needs = Callable[[Settings], int | None]


@dataclass(frozen=True)
class Fix:
    """The settings to change, and what it needs then."""

    changes: dict[str, Any]
    words: str


def fit(needed: int, limit: int) -> str:
    if needed > limit:
        return WONT_FIT
    return "tight" if needed > TIGHT_ABOVE * limit else "fits"


def smallest_fix(settings: Settings, needs: Needs, limit: int, is_tight: bool) -> Fix | None:
    """The first change after which it fits or, where it did not fit and none does that, after which it is tight."""
    shares = (TIGHT_ABOVE,) if is_tight else (TIGHT_ABOVE, 1.0)
    lighter = [(changed, needs(changed)) for changed in _lighter(settings)]
    for share in shares:
        for changed, needed in lighter:
            if needed is not None and needed <= share * limit:
                return Fix(_changes(settings, changed), _words(settings, changed, needed))
    lightest = lighter[-1][0]
    for share in shares:
        if (found := _longest(lightest, needs, int(share * limit))) is not None:
            return Fix(_changes(settings, found[0]), _words(settings, *found))
    return None


def _lighter(settings: Settings) -> list[Settings]:
    """The same rows in smaller batches, then with gradient checkpointing as well."""
    batch, most = settings.batch_size, TRAINING["accumulation"].high
    sizes = [
        size for size in range(batch, 0, -1) if batch % size == 0 and settings.accumulation * batch // size <= most
    ]
    return [
        replace(
            settings, batch_size=size, accumulation=settings.accumulation * batch // size,
            gradient_checkpointing=is_saving,
        )
        for is_saving in sorted({settings.gradient_checkpointing, True})
        for size in sizes
    ]  # fmt: skip


def _longest(settings: Settings, needs: Needs, room: int) -> tuple[Settings, int] | None:
    """The largest max length under the present one that has room, and what it needs."""
    lengths = range(SHORTEST, settings.max_length, SHORTER_BY)

    def is_too_much(length: int) -> bool:
        return (needs(replace(settings, max_length=length)) or 0) > room

    first = bisect.bisect_left(lengths, True, key=is_too_much)
    if not first:
        return None
    found = replace(settings, max_length=lengths[first - 1])
    needed = needs(found)
    return None if needed is None else (found, needed)


def _changes(old: Settings, new: Settings) -> dict[str, Any]:
    names = ("batch_size", "accumulation", "gradient_checkpointing", "max_length")
    before, after = vars(old), vars(new)
    return {name: after[name] for name in names if after[name] != before[name]}


def _words(old: Settings, new: Settings, needed: int) -> str:
    said = []
    if new.batch_size != old.batch_size:
        said.append(f"lower the batch size from {old.batch_size} to {new.batch_size}")
    if new.gradient_checkpointing != old.gradient_checkpointing:
        said.append("turn gradient checkpointing on")
    if new.max_length != old.max_length:
        said.append(f"lower the max length from {old.max_length} to {new.max_length}")
    text = " and ".join(filter(None, (", ".join(said[:-1]), said[-1])))
    return f"{text[0].upper()}{text[1:]}: then it needs {needed / 1e9:.1f} GB."
