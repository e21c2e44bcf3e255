"""Weeks of use in one engine process: what it holds at the end of each stretch, against what it held before the first.

The engine is a process of its own, as it is for a user, so nothing that this one does is counted as the engine's.
"""

import atexit
import functools
import math
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import psutil

from core import runs
from core.client import EngineClient, EnginePhase, Turn
from core.messages import Conversation, Message, Role, ask
from core.settings import Decoding
from tests.faults.figures import near_engine
from tests.faults.figures.figure import Figure, Tried
from tests.faults.figures.near_engine import until

STRETCHES = 20
TURNS, SWAPS = 100, 10
# Arenas fill up over the first stretches; a slope over fewer than these says nothing.
SETTLING, ENOUGH = 3, 6
# A stretch is an hour of use: in a year of a thousand hours this would be a gigabyte.
FLAT_MB = 1.0
T_95 = {4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 12: 2.18, 15: 2.13}
CHAT = Decoding(max_new_tokens=8, temperature=1.0, seed=3)


@dataclass(frozen=True)
class Held:
    """What the engine's process, and this one, hold at rest."""

    threads: int
    handles: int
    children: int
    page_threads: int
    left_over: tuple[str, ...]


@dataclass
class Session:
    """One engine for as long as this process lives; `memory_mb` holds a figure a stretch."""

    client: EngineClient
    process: psutil.Process
    before: Held | None = None
    memory_mb: list[float] = field(default_factory=list)


@functools.cache
def session() -> Session:
    home, base, _ = near_engine.furnished()
    with near_engine.at_home(home) as patch:
        temporary = home / "temporary"
        temporary.mkdir()
        patch.setenv("TMPDIR", str(temporary))
        client = EngineClient(str(base))
        client.start()
        atexit.register(client.close)
        until(lambda: client.state().phase is EnginePhase.READY, "the engine")
        found = Session(client, psutil.Process(client._process.pid))
        # Libraries are imported, and their threads begun, by the first of each.
        chat(found, 2)
        train(found, 1)
        swap(found, 3)
        found.before = held(found)
    return found


# What a user does


def chat(session: Session, turns: int) -> None:
    """One conversation, which soon is longer than the model can read."""
    said: Conversation = ()
    for number in range(turns):
        said = (*said, *ask(f"And what is in box {number}?"))
        names = ("base", "amber")[: 1 + number % 2]
        with closing(session.client.stream([Turn(name, said) for name in names], CHAT)) as chunks:
            ends = [chunk.response for chunk in chunks if chunk.response]
        said = (*said, Message(Role.ASSISTANT, ends[0].text or "Aye."))


def swap(session: Session, swaps: int) -> None:
    """Every adapter in turn, more of them with every run."""
    names = runs.list_adapters()
    for number in range(swaps):
        session.client.answer([Turn(names[number % len(names)], ask("Hi"))], CHAT)


def train(session: Session, seed: int) -> None:
    name = session.client.start_run(near_engine.run_request(("sft", "dpo")[seed % 2]))
    until(lambda: session.client.state().run is None and not runs.read_run(name).is_alive, "the end of the run")
    if runs.read_run(name).status != "finished":
        raise RuntimeError(f"The run {name} ended: {runs.read_run(name).reason}")


# What is left of it


def held(session: Session) -> Held:
    home = near_engine.furnished()[0]
    aside = (path for path in home.rglob("*") if path.name.startswith(".") and path.name != ".fingerprints.json")
    left = sorted(str(path.relative_to(home)) for path in {*aside, *(home / "temporary").rglob("*")})
    with session.process.oneshot():
        return Held(
            session.process.num_threads(), session.process.num_fds(), len(session.process.children(recursive=True)),
            threading.active_count(), tuple(left),
        )  # fmt: skip


def grown(before: Held, now: Held) -> list[str]:
    counts = {
        "threads": "threads",
        "handles": "file handles",
        "children": "processes",
        "page_threads": "page's threads",
    }
    more = {words: (getattr(before, name), getattr(now, name)) for name, words in counts.items()}
    found = [f"{words} grew from {was} to {are}" for words, (was, are) in more.items() if are > was]
    new = sorted(set(now.left_over) - set(before.left_over))
    return found + ([f"{len(new)} temporary files are left, {new[0]} first"] if new else [])


def slope(values: Sequence[float]) -> tuple[float, float, float]:
    """Least squares over 0, 1, 2, ...: the slope and its 95 % interval."""
    n, middle = len(values), (len(values) - 1) / 2
    mean, spread = sum(values) / n, sum((i - middle) ** 2 for i in range(n))
    found = sum((i - middle) * (value - mean) for i, value in enumerate(values)) / spread
    rest = sum((value - mean - found * (i - middle)) ** 2 for i, value in enumerate(values))
    quantile = next((T_95[freedom] for freedom in sorted(T_95, reverse=True) if freedom <= n - 2), T_95[4])
    half = quantile * math.sqrt(rest / (n - 2) / spread)
    return found, found - half, found + half


def memory_grew(memory_mb: Sequence[float]) -> list[str]:
    settled = memory_mb[SETTLING:]
    if len(settled) < ENOUGH:
        return []
    found, low, high = slope(settled)
    said = f"memory grew by {found:.2f} MB a stretch ({low:.2f} to {high:.2f}), to {settled[-1]:.0f} MB"
    print(f"  long_use: over {len(settled)} stretches {said}", file=sys.stderr)
    return [said] if low > FLAT_MB else []


def attempt(seed: int) -> Tried:
    """The next stretch of the one session: a talk, every adapter in turn, a run."""
    found = session()
    with near_engine.at_home(near_engine.furnished()[0]):
        chat(found, TURNS)
        swap(found, SWAPS)
        train(found, seed)
        found.memory_mb.append(found.process.memory_full_info().uss / 1e6)
        assert found.before is not None
        wrong = [*grown(found.before, held(found)), *memory_grew(found.memory_mb)]
    return Tried(1, ("; ".join(wrong),) if wrong else ())


FIGURES = (
    Figure(
        "long_use",
        f"stretches of {TURNS} chat turns, {SWAPS} adapter swaps and a run in one engine, after which memory is flat "
        "and no thread, file handle or temporary file is left",
        f"{STRETCHES} of {STRETCHES}",
        STRETCHES,
        1,
        attempt,
    ),
)
