"""What a figure of reliability is: the same thing tried many times, each try from its own seed, and what went wrong.

The rest of this folder holds the figures, one subject a file, each ending with FIGURES.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """What one call tried, and a sentence for each that went wrong."""

    count: int
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """`attempt(seed)` is one call, and what it does is a pure function of its seed. `target` says in words what is
    asked; the full form makes `full` tries and the shortened one `short`, counted in `Tried.count`."""

    name: str
    what: str
    target: str
    full: int
    short: int
    attempt: Callable[[int], Tried]
