"""How time and memory grow: with pairs, with their length, with the adapters that are in memory; Mistral-7B on paper.

Pairs are read from a finished run's own rows, since a run of 1,000 pairs has been one of 250 on its way; length and
adapters are measured on the starter model. Run it with `python -m tests.bench.growth --run NAME`.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core import device, estimate, fitting, paths, runs, trainer
from core.estimate import Job, Shape
from core.loader import BASE, ResidentModel
from core.settings import Method, Settings, Size
from core.token_rows import TokenPair
from tests.make_adapter import make_adapter

PAIRS, LENGTHS, ADAPTERS = (250, 500, 1000), (128, 256, 512, 1024), (1, 4, 16)
BATCH = 4
STARTER = paths.PROJECT_ROOT / "models" / "base" / paths.STARTER_NAME
# Mistral-7B-Instruct-v0.3, by its configuration, in half precision.
MISTRAL = Shape(7_248_023_552, 32, 4096, 14336, 32768, 32, 8, 128, 2)
# A Mac of 32 GB gives its GPU about 21.3 GiB. Assumed, not measured: that so many operations a second come of it.
MAC_LIMIT, MAC_OPERATIONS = int(21.3 * 1024**3), 4e12


def settings_of(max_length: int, size: Size = Size.SMALL, **changes: Any) -> Settings:
    chosen = {"batch_size": BATCH, "accumulation": 1, "max_length": max_length, "lora_rank": 16, "epochs": 1,
              "loss": "sigmoid", "checkpoint_every": 1000}  # fmt: skip
    return Settings.of(Method.DPO, size, chosen | changes)


def pair_of(length: int) -> TokenPair:
    """Prompt and replies of half of `length` each."""
    ids = [n * 7 % 40_000 + 100 for n in range(length // 2)]
    return TokenPair(ids, ids[::-1], ids[1:] + ids[:1])


def by_pairs(name: str) -> list[tuple[str, ...]]:
    """Seconds, and the highest memory, up to so many pairs of a run that has been."""
    config = runs.read_config(paths.run_dir(name) / "run.yaml")["settings"]
    a_step = config["batch_size"] * config["accumulation"]
    rows = runs.read_metrics(name)
    found = []
    for pairs in PAIRS:
        until = [row for row in rows if row["step"] <= -(-pairs // a_step)]
        seconds = sum(a_step / row["pairs_per_s"] for row in until)
        done = a_step * len(until)
        found.append((f"{pairs:,} pairs", f"{seconds / 60:.1f} min", f"{done / seconds:.2f} pairs a second",
                      f"{max(row['memory_bytes'] for row in until) / 1e9:.1f} GB"))  # fmt: skip
    return found


def stepped(resident: ResidentModel, length: int, folder: Path) -> tuple[float, int]:
    """Seconds of the second of two steps over pairs of this length, and the peak of both."""
    rows = [pair_of(length)] * (2 * BATCH)
    resident.open_policy(settings_of(length))
    paces: list[float] = []
    hooks = trainer.Hooks(
        serve=lambda: None,
        is_stopping=lambda: False,
        on_row=lambda row: paces.append(row["pairs_per_s"]),
        on_begin=lambda *_: None,
    )
    with device.MemoryWatch("cpu") as memory:
        trainer.train(resident, Method.DPO, settings_of(length), rows, [(-50.0, -50.0)] * len(rows), folder, hooks)
    resident.close_policy()
    device.release("cpu")
    return BATCH / paces[-1], memory.peak


def by_length(resident: ResidentModel, folder: Path) -> list[tuple[str, ...]]:
    found = []
    for length in LENGTHS:
        seconds, peak = stepped(resident, length, folder / f"length-{length}")
        tokens = BATCH * pair_of(length).shared_length
        found.append((f"{length:,} tokens", f"{seconds:.2f} s a step of {BATCH}",
                      f"{1000 * seconds / tokens:.2f} ms a token", f"{peak / 1e9:.1f} GB"))  # fmt: skip
    return found


def by_adapters(resident: ResidentModel, folder: Path) -> list[tuple[str, ...]]:
    found = []
    for count in ADAPTERS:
        for number in range(len(resident.adapters), count):
            make_adapter(resident, f"grown-{number}", scale=0.002, lora_rank=16, lora_alpha=32)
            resident.attach(f"grown-{number}")
        seconds, _ = stepped(resident, 256, folder / f"adapters-{count}")
        began = time.perf_counter()
        for name in resident.adapters:
            with resident.speaking([name]), resident.speaking([BASE]):
                pass
        swap_ms = 1000 * (time.perf_counter() - began) / (2 * count)
        found.append((f"{count} adapters", f"{seconds:.2f} s a step of {BATCH} x 256", f"{swap_ms:.1f} ms a swap",
                      f"{resident.memory_bytes / 1e9:.2f} GB of weights"))  # fmt: skip
    return found


def on_paper() -> list[tuple[str, ...]]:
    """Mistral-7B on a 32 GB Mac: what estimate.py reckons, and 6 N operations a token (4 to train, 2 for the
    reference) at an assumed speed."""
    found = []
    for length in LENGTHS:
        settings = settings_of(length, Size.LARGE, batch_size=1, gradient_checkpointing=True)
        job = Job(Method.DPO, settings, [pair_of(length)] * 8, pad_to=64)
        peak = sum(estimate.parts(MISTRAL, job, "mps").values())
        tokens = job.width(pair_of(length))
        # Checkpointing computes each layer once more.
        seconds = (4 + 2 + 2) * MISTRAL.num_parameters * tokens / MAC_OPERATIONS
        needed = f"{peak / 1024**3:.1f} GiB: {fitting.fit(peak, MAC_LIMIT)}"
        hours = f"{1000 * seconds / 3600:.1f} h for 1,000 pairs"
        found.append((f"{length:,} tokens, 1 pair, checkpointing", f"{seconds:.0f} s a pair", hours, needed))
    adapter = estimate.num_trainable(MISTRAL, settings_of(512)) * 4
    for count in ADAPTERS:
        whole = MISTRAL.num_parameters * MISTRAL.dtype_bytes + count * adapter
        found.append((f"{count} adapters", "", "", f"{whole / 1024**3:.1f} GiB of weights"))
    return found


def show(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    print(f"\n{title}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="", help="a finished run, for the growth with pairs")
    asked = parser.parse_args()
    if asked.run:
        show(f"Pairs: {asked.run}", by_pairs(asked.run))
        held_out = {k: v for k, v in runs.read_run(asked.run).result.items() if "accuracy" in k or k == "held_out"}
        print(json.dumps(held_out))
    with tempfile.TemporaryDirectory() as home:
        os.environ["PLAYGROUND_HOME"] = home
        paths.ensure_home()
        resident = ResidentModel(STARTER, device.choose(0), paths.STARTER_NAME)
        show("Length of a pair, the starter model", by_length(resident, Path(home)))
        show("Adapters in memory, the starter model", by_adapters(resident, Path(home)))
    show("Mistral-7B in half precision on a 32 GB Mac, on paper", on_paper())


if __name__ == "__main__":
    main()
