"""How long it takes until somebody else speaks, or as strongly as asked, on the resident starter model.

Two adapters are attached. A swap is entering and leaving `speaking`: its first forward pass is the response's own.
Beside it stands what there would be to do without a resident model: load the base and attach the adapter. Run it with
`python -m tests.bench.swapping`.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from unittest import mock

from core import device, paths
from core.loader import BASE, ResidentModel
from core.settings import Method, Settings, Size
from tests.make_adapter import make_adapter

MAX_SWAP_MS = 20.0
MIN_TIMES_RELOAD = 50.0
NUM_SWAPS, NUM_RELOADS = 100, 3
ADAPTERS = ("one", "two")
RANK = 16
# Who speaks, and how strongly: first these, then those, and so on in turn.
SWAPS: dict[str, Sequence[tuple[Sequence[str], Sequence[float]]]] = {
    "adapter": ((["one"], [1.0]), (["two"], [1.0])),
    "adapter, base beside it": (([BASE, "one"], [1.0, 1.0]), ([BASE, "two"], [1.0, 1.0])),
    "strength": ((["one"], [1.0]), (["one"], [0.5])),
    "strength, base beside it": (([BASE, "one"], [1.0, 1.0]), ([BASE, "one"], [1.0, 0.5])),
    "24 rows of all at 3 strengths": (([BASE, *ADAPTERS] * 8, [0.5, 1.0, 1.5, 1.0] * 6),),
}
IN_TRAINING = ("adapter", "strength, base beside it")


@dataclass(frozen=True)
class Row:
    """One kind of swap, in milliseconds, and the fastest reload."""

    what: str
    median_ms: float
    slowest_ms: float
    reload_ms: float

    @property
    def times_reload(self) -> float:
        """How many such swaps a reload takes as long as."""
        return self.reload_ms / self.median_ms

    @property
    def is_met(self) -> bool:
        return self.median_ms < MAX_SWAP_MS and self.times_reload >= MIN_TIMES_RELOAD


def measure() -> list[Row]:
    """A row a kind of swap, the last of them beside a policy in training. The adapters stand in a home of their own."""
    folder = (paths.base_dir() / paths.STARTER_NAME).resolve()

    def load() -> ResidentModel:
        return ResidentModel(folder, device.choose(0), paths.STARTER_NAME)

    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, PLAYGROUND_HOME=home):
        paths.ensure_home()
        resident = load()
        for seed, name in enumerate(ADAPTERS, start=1):
            make_adapter(resident, name, seed, lora_rank=RANK)
        reload_ms = min(_timed_ms(lambda: load().attach(ADAPTERS[0])) for _ in range(NUM_RELOADS))
        for name in ADAPTERS:
            resident.attach(name)
        rows = [_row(resident, what, reload_ms) for what in SWAPS]
        resident.open_policy(Settings.of(Method.DPO, Size.SMALL, {"lora_rank": RANK}))
        resident.model.train()
        return rows + [_row(resident, what, reload_ms, ", in training") for what in IN_TRAINING]


def _row(resident: ResidentModel, what: str, reload_ms: float, where: str = "") -> Row:
    def swap(number: int) -> None:
        with resident.speaking(*SWAPS[what][number % len(SWAPS[what])]):
            pass

    took = [_timed_ms(lambda n=number: swap(n)) for number in range(NUM_SWAPS)]
    return Row(what + where, median(took), max(took), reload_ms)


def _timed_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    rows = measure()
    print(f"{'swap of':40} {'median, ms':>10} {'slowest, ms':>12} {'by a reload':>12}")
    for row in rows:
        verdict = "pass" if row.is_met else "FAIL"
        print(f"{row.what:40} {row.median_ms:10.2f} {row.slowest_ms:12.2f} {row.times_reload:11.0f}x  {verdict}")
    print(f"a reload of the base with one adapter takes {rows[0].reload_ms:,.0f} ms")
    sys.exit(not all(row.is_met for row in rows))


if __name__ == "__main__":
    main()
