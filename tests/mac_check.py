"""Ten minutes on a real Mac: what no test on another machine can show, printed as a report to paste.

`make mac-check`; with `--on cuda` or `--on cpu` the same on another machine. Half-precision SFT and DPO on the resident
model, chat in the middle of a run, memory and time against what was predicted, the base proven after each. Writes only
into a temporary folder.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")
NOT_A_MAC = "This check is for a Mac with Apple silicon. Elsewhere, --on cpu or --on cuda does the same work there."
QUESTION = "What should I have ready before I call my landlord about a broken heater?"
BATCH = 4


@dataclass
class Report:
    """Lines of the report; a part that fails is a line too, and the rest goes on."""

    lines: list[str] = field(default_factory=list)
    num_failed: int = 0

    def say(self, name: str, value: object) -> None:
        self.lines.append(f"{name:<34} {value}")
        print(self.lines[-1], flush=True)

    def part(self, title: str, work: Callable[[], None]) -> None:
        self.lines.append(f"\n## {title}")
        print(self.lines[-1], flush=True)
        try:
            work()
        except Exception as error:  # the edge of a part: what failed is what the report is for
            self.num_failed += 1
            self.say("FAILED", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def gb(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.2f} GB"


def asked_of_system(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except OSError:
        return ""


def timed(work: Callable[[], Any], times: int = 5) -> float:
    """The middle of several wall times, in seconds."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


class Check:
    """The parts of the check, in their order; each leaves behind what the next one needs."""

    def __init__(self, report: Report, kind: str, model: str, steps: int) -> None:
        self.report = report
        self.kind = kind
        self.model = model
        self.steps = steps
        self.attention = "sdpa"
        self.resident: Any = None
        self.quiet = ""

    def machine(self) -> None:
        import psutil

        from core import device

        say = self.report.say
        say("system", f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else platform.platform())
        say("chip", asked_of_system("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or "unknown")
        say("memory", gb(psutil.virtual_memory().total))
        say("memory for the model", gb(device.memory_limit(self.kind)))
        say("python", platform.python_version())
        say("libraries", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES))

    def self_test(self) -> None:
        import torch

        from core import device

        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            began = time.perf_counter()
            failed = device.self_test(self.kind, dtype)
            took = 1000 * (time.perf_counter() - began)
            name = str(dtype).removeprefix("torch.")
            self.report.say(name, f"{'wrong: ' + ', '.join(sorted(failed)) if failed else 'right'} ({took:.0f} ms)")
            if dtype == torch.bfloat16 and "attention" in failed:
                self.attention = "eager"
        for parameters, what in ((135_000_000, "a small base"), (7_248_023_552, "a 7B base")):
            chosen = device.choose(parameters, self.kind)
            self.report.say(
                f"would run {what} on", f"{chosen.kind}, {chosen.dtype_name}, {chosen.attention} ({chosen.reason})"
            )

    def load(self) -> None:
        import torch

        from core import catalogue, device
        from core.loader import BASE, ResidentModel
        from core.redact import api_key

        folder = catalogue.bring(self.model, api_key("HUGGINGFACE_TOKEN"), lambda message, share: None)
        forced = device.Device(self.kind, torch.bfloat16, self.attention, "forced by this check")
        began = time.perf_counter()
        self.resident = ResidentModel(folder, forced, self.model)
        say = self.report.say
        say("base", f"{self.model}, {self.resident.num_parameters:,} parameters in bfloat16, {self.attention}")
        say("loaded in", f"{time.perf_counter() - began:.1f} s")
        say("weights", gb(self.resident.memory_bytes))
        say("memory used", gb(device.memory_used(self.kind)))
        again = self.resident._probe_logits(BASE)
        say("probe moves at rest by", f"{float((again - self.resident._probe).abs().max()):.3g}")

    def request(self, method: str, **settings: object) -> Any:
        from core.client import RunRequest

        chosen = {"batch_size": BATCH, "accumulation": 1, "epochs": 1, **settings}
        return RunRequest(
            method=method, dataset="starter", limit=max(8, BATCH * self.steps), held_out=8, settings=chosen,
            is_trait_counted=False,
        )  # fmt: skip

    def train(self, request: Any, serve: Callable[[], None] = lambda: None) -> str:
        from core import run_progress, run_request, runner
        from core.planning import Planner

        plan = Planner().plan(self.resident, request)
        began = time.perf_counter()
        name = run_request.prepare(self.resident, *run_request.check(request)).name
        done = runner.execute(self.resident, name, run_progress.Control(serve=serve))
        took = time.perf_counter() - began
        say, result = self.report.say, done.result
        say("status", f"{done.status} {done.reason}".strip())
        if done.status != "finished":
            raise RuntimeError(done.reason)
        say("steps", f"{done.steps} of {plan.batch} pairs, {done.result['pairs'] / result['train_s']:.2f} pairs/s")
        say("loss at the end", f"{result['loss']:.4f}")
        say("preference accuracy", f"base {result['base_k']}/{result['held_out']}, tuned {result['tuned_k']}")
        say("peak memory, predicted", gb(plan.memory_bytes))
        say(
            "peak memory, seen",
            f"{gb(result['peak_memory_bytes'])} ({result['peak_memory_bytes'] / plan.memory_bytes:.2f}x)",
        )
        say("whole run, predicted", f"{plan.duration_s:.0f} s")
        say("whole run, seen", f"{took:.0f} s ({took / plan.duration_s:.2f}x)")
        self.resident.prove_base()
        say("base after the run", "proven unchanged")
        return done.name

    def sft(self) -> None:
        self.train(self.request("sft"))

    def dpo(self) -> None:
        self.quiet = self.train(self.request("dpo"))

    def dpo_saving_memory(self) -> None:
        self.train(self.request("dpo", gradient_checkpointing=True))

    def chat_while_training(self) -> None:
        from core.client import Turn
        from core.generate import answer
        from core.loader import BASE
        from core.messages import ask
        from core.settings import Decoding

        waits: list[float] = []
        calls = 0

        def visit() -> None:
            nonlocal calls
            calls += 1
            if calls % 5 == 0:
                turns = [Turn(who, ask(QUESTION)) for who in (BASE, self.quiet)]
                began = time.perf_counter()
                answer(self.resident, turns, Decoding(max_new_tokens=16, temperature=0.8))
                waits.append(time.perf_counter() - began)

        busy = self.train(self.request("dpo"), visit)
        self.report.say(
            "chats during the run", f"{len(waits)}, {statistics.mean(waits):.2f} s each (16 tokens, 2 rows)"
        )
        self.report.say("adapter with and without chat", self.compared(self.quiet, busy))

    def compared(self, one: str, other: str) -> str:
        from safetensors.torch import load_file

        from core import adapters, runs

        a, b = (load_file(runs.adapter_dir(name) / adapters.WEIGHTS) for name in (one, other))
        furthest = max(float((a[key] - b[key]).abs().max()) for key in a)
        return "bit-identical" if furthest == 0 else f"differs by up to {furthest:.3g}"

    def speed(self) -> None:
        from core import device
        from core.client import Turn
        from core.generate import answer
        from core.loader import BASE
        from core.messages import ask
        from core.settings import Decoding

        resident, say = self.resident, self.report.say

        def swap() -> None:
            with resident.speaking([self.quiet]):
                pass

        say("swap to an adapter and back", f"{1000 * timed(swap, 20):.2f} ms")
        resident.detach(self.quiet)
        began = time.perf_counter()
        resident.attach(self.quiet)
        say("attach an adapter, proof included", f"{1000 * (time.perf_counter() - began):.0f} ms")
        greedy = Decoding(max_new_tokens=64, temperature=0.0)
        for names in ((BASE,), (self.quiet,), (BASE, self.quiet)):
            turns = [Turn(name, ask(QUESTION)) for name in names]
            answer(resident, turns, Decoding(max_new_tokens=2, temperature=0.0))
            began = time.perf_counter()
            responses = answer(resident, turns, greedy)
            rate = sum(r.num_tokens for r in responses) / (time.perf_counter() - began)
            who = " and ".join("base" if name == BASE else "tuned" for name in names)
            say(f"{who}, tokens a second", f"{rate:.1f}")
        say("memory used at the end", gb(device.memory_used(self.kind)))

    def run(self) -> None:
        part = self.report.part
        part("Machine", self.machine)
        part("Self-test: attention and matrix products", self.self_test)
        part("Loading in half precision", self.load)
        if self.resident is None:
            return
        part("SFT", self.sft)
        part("DPO", self.dpo)
        part("DPO with chat in the middle", self.chat_while_training)
        part("DPO with gradient checkpointing", self.dpo_saving_memory)
        part("Speed", self.speed)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=("mps", "cuda", "cpu"), default="mps", help="the same work elsewhere")
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps of each run (default 20)")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="another base: a folder or a Hub id")
    return parser.parse_args()


def main() -> int:
    asked = parsed()
    is_mac = sys.platform == "darwin" and platform.machine() == "arm64"
    if asked.on == "mps" and not is_mac:
        print(NOT_A_MAC, file=sys.stderr)
        return 2
    sys.path.insert(0, str(PROJECT))
    from core import redact
    from core.engine_process import set_environment

    set_environment()
    redact.load_env()
    bases = Path(os.environ.get("PLAYGROUND_HOME") or PROJECT).expanduser() / "models" / "base"
    report = Report()
    with tempfile.TemporaryDirectory(prefix="machine-check-") as home:
        (Path(home) / "models").mkdir()
        bases.mkdir(parents=True, exist_ok=True)
        (Path(home) / "models" / "base").symlink_to(bases.resolve())
        os.environ["PLAYGROUND_HOME"] = home
        began = time.monotonic()
        Check(report, asked.on, asked.model, asked.steps).run()
        report.part("All of it", lambda: report.say("took", f"{(time.monotonic() - began) / 60:.1f} min"))
    print("\nThe report, to paste:\n\n" + "\n".join(report.lines).strip())
    return 1 if report.num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
