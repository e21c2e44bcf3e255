"""How long it takes until somebody else speaks, or as strongly as asked, on the resident starter model.

Two adapters are attached. A swap is entering and leaving `speaking`: its first forward pass is the response's own.
Beside it stands what there would be to do without a resident model: load the base and attach the adapter. Run it with
`python -m tests.bench.swapping`.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from statistics import median
from unittest import mock

from core import device, paths
from core.loader import BASE, ResidentModel
from core.settings import Method, Settings, Size
from tests.bench.table import Row, as_markdown, below, faster
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


def measure(is_quick: bool = False) -> list[Row]:
    """The slowest kind of swap, some of them beside a policy in training, and an adapter's swap beside the fastest
    reload. It takes seconds, and has no quicker form. The adapters stand in a home of their own."""
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
        took = {what: _swap_ms(resident, what) for what in SWAPS}
        resident.open_policy(Settings.of(Method.DPO, Size.SMALL, {"lora_rank": RANK}))
        resident.model.train()
        took |= {f"{what}, in training": _swap_ms(resident, what) for what in IN_TRAINING}
    slowest = max(took, key=lambda what: took[what])
    return [
        below(f"the slowest swap ({slowest})", took[slowest], MAX_SWAP_MS, "ms"),
        faster("a swap of adapters; a reload of the base with one", took["adapter"], reload_ms, MIN_TIMES_RELOAD, "ms"),
    ]


def _swap_ms(resident: ResidentModel, what: str) -> float:
    def swap(number: int) -> None:
        with resident.speaking(*SWAPS[what][number % len(SWAPS[what])]):
            pass

    return median(_timed_ms(lambda n=number: swap(n)) for number in range(NUM_SWAPS))


def _timed_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    print(as_markdown(measure()))
