"""What a plan says of time and memory against what the run then takes: short trainings of the starter model.

Each in a process of its own, predicted and measured in one run: seconds of the whole run before it starts, seconds
left after five steps, and the peak of memory. Run it with `python -m tests.bench.predictions`; `--case dpo-4x256`
runs one of them.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core import paths
from core.wire import RunRequest

EARLY_STEP = 5
# Measured by predicted: before the start, after five steps, and of memory, which is never to be more than predicted.
BEFORE, EARLY, MEMORY = (1 / 1.5, 1.5), (1 / 1.25, 1.25), (1 / 1.5, 1.0)
WORDS = ("the", "slow", "river", "bends", "twice", "before", "it", "meets", "a", "wide", "and", "quiet", "sea")


@dataclass(frozen=True)
class Case:
    method: str
    batch_size: int
    max_length: int
    steps: int
    lora_rank: int = 8
    gradient_checkpointing: bool = False
    looks: int = 0
    is_starter: bool = False

    @property
    def name(self) -> str:
        marks = ["starter"] * self.is_starter + ["saving"] * self.gradient_checkpointing
        return "-".join([self.method, f"{self.batch_size}x{self.max_length}", f"r{self.lora_rank}", *marks])

    def request(self, folder: Path) -> RunRequest:
        settings = {
            "batch_size": self.batch_size, "max_length": self.max_length, "lora_rank": self.lora_rank,
            "gradient_checkpointing": self.gradient_checkpointing, "looks": self.looks, "epochs": 1, "accumulation": 1,
        }  # fmt: skip
        limit = self.batch_size * self.steps
        dataset = "starter" if self.is_starter else str(full_rows(folder / "rows.jsonl", limit + 8, self.max_length))
        return RunRequest(
            method=self.method, dataset=dataset, limit=limit, held_out=8, is_trait_counted=False, settings=settings
        )


CASES = (
    Case("dpo", 4, 256, 12, lora_rank=16, looks=2, is_starter=True),
    Case("sft", 1, 128, 16, looks=1),
    Case("dpo", 1, 256, 10, looks=1),
    Case("dpo", 1, 512, 8),
    Case("dpo", 4, 128, 7, lora_rank=64),
    Case("dpo", 4, 256, 2, gradient_checkpointing=True),
    Case("sft", 8, 256, 2),
    Case("sft", 8, 512, 2, gradient_checkpointing=True),
)


def full_rows(path: Path, number: int, max_length: int) -> Path:
    """Pairs whose replies reach past max length, after prompts of like lengths."""
    draw = random.Random(3)
    rows = []
    for n in range(number):
        question = f"\n\nHuman: {n} {' '.join(draw.choices(WORDS, k=30))}?\n\nAssistant:"
        chosen, rejected = (" ".join(draw.choices(WORDS, k=max_length)) for _ in range(2))
        rows.append(json.dumps({"chosen": f"{question} {chosen}", "rejected": f"{question} {rejected}"}))
    path.write_text("\n".join(rows))
    return path


def measure(case: Case, folder: Path) -> dict[str, float | None]:
    """In this process: the plan, then the run."""
    from core import device, run_progress, run_request, runner
    from core.loader import ResidentModel
    from core.planning import Planner

    base = paths.base_dir() / paths.STARTER_NAME
    os.environ["PLAYGROUND_HOME"] = str(folder)
    paths.ensure_home()
    (paths.base_dir() / paths.STARTER_NAME).symlink_to(base)
    resident = ResidentModel(paths.base_dir() / paths.STARTER_NAME, device.choose(0), paths.STARTER_NAME)
    request = case.request(folder)
    began = time.monotonic()
    plan = Planner().plan(resident, request)
    planned_s = time.monotonic() - began
    name = run_request.prepare(resident, *run_request.check(request)).name
    early = Early(name)
    began = time.monotonic()
    done = runner.execute(resident, name, run_progress.Control(serve=early.watch))
    ended = time.monotonic()
    if done.status != "finished":
        raise RuntimeError(done.reason)
    return {
        "planned_s": planned_s,
        "predicted_s": plan.duration_s,
        "measured_s": ended - began,
        "left_predicted_s": early.left_s,
        "left_measured_s": ended - early.at if early.left_s else None,
        "predicted_bytes": plan.memory_bytes,
        "measured_bytes": done.peak_memory_bytes,
    }


class Early:
    """What the run says is left of it, after five steps."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left_s: float | None = None
        self.at = 0.0

    def watch(self) -> None:
        from core import runs

        if self.left_s is None and (run := runs.read_run(self.name)).step >= EARLY_STEP:
            self.left_s, self.at = run.eta_s, time.monotonic()


def in_own_process(case: Case) -> dict[str, float | None]:
    command = [sys.executable, "-m", "tests.bench.predictions", "--measure", case.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=paths.PROJECT_ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(
    predicted: float | None, measured: float | None, bars: tuple[float, float], show: Callable[[float], str]
) -> tuple[str, bool]:
    """Both with their ratio, and whether that is within its bars; nothing where nothing was measured."""
    if not predicted or not measured:
        return f"{'-':>28}", True
    ratio = measured / predicted
    is_good = bars[0] <= ratio <= bars[1]
    return f"{show(predicted):>9} {show(measured):>9} {ratio:5.2f} {'ok' if is_good else 'OUT':3}", is_good


def main() -> None:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=names, action="append", help="only this one; may be given again")
    parser.add_argument("--measure", choices=names, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(CASES[names.index(asked.measure)], Path(folder))))
        return
    print("Predicted, measured, measured by predicted; each training in a process of its own")
    print(f"{'':24} {'whole run, s':>28} {'left after 5 steps, s':>29} {'peak memory, GB':>29}  probe s")
    are_good = []
    for case in CASES:
        if asked.case and case.name not in asked.case:
            continue
        found = in_own_process(case)
        whole = compared(found["predicted_s"], found["measured_s"], BEFORE, "{:.0f}".format)
        left = compared(found["left_predicted_s"], found["left_measured_s"], EARLY, "{:.0f}".format)
        memory = compared(
            found["predicted_bytes"], found["measured_bytes"], MEMORY, lambda size: f"{size / 1e9:.2f}"
        )  # fmt: skip
        print(f"{case.name:24} {whole[0]}  {left[0]}  {memory[0]}  {found['planned_s']:.1f}", flush=True)
        are_good += [whole[1], left[1], memory[1]]
    print(f"{sum(are_good)} of {len(are_good)} within the bars")
    sys.exit(not all(are_good))


if __name__ == "__main__":
    main()
