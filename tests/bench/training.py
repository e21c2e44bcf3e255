"""A DPO step of the starter model against TRL's own, on the same pairs in the same order; memory and first figures.

Each side runs in a process of its own, one after the other: TRL with its defaults (bf16 off: this is for a CPU), TRL at
the best that its own options give (no gradient checkpointing, reference computed beforehand), and the playground twice,
the second time with another learning rate. Run it with `python -m tests.bench.training --data FILE`; `--steps 3` for
less.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import paths

BATCH, MAX_LENGTH, RANK, SEED = 4, 512, 16, 42
SIDES = {
    "defaults": "TRL, its defaults",
    "options": "TRL, its best options",
    "ours": "ours",
    "again": "ours, second click",
}
# What the first step must say alike, and how far apart it may be.
FIGURES, TOLERANCE = ("logps/chosen", "logps/rejected", "loss"), 1e-4
BARS = {"defaults": 4.0, "options": 2.0}


def rows_in_order(data: str, steps: int) -> list[Any]:
    """The first pairs of a file, tokenised, in the order in which a run of one pass takes them."""
    from transformers import AutoTokenizer

    from core import preferences
    from core.chat_template import ChatTemplate
    from core.token_rows import grouped_order, tokenise

    tokenizer = AutoTokenizer.from_pretrained(paths.base_dir() / paths.STARTER_NAME)
    read = preferences.read(data, BATCH * steps, 0)
    rows, _ = tokenise(ChatTemplate(tokenizer), read.train, MAX_LENGTH)
    rows = rows[: len(rows) // BATCH * BATCH]
    return [rows[i] for i in grouped_order([row.shared_length for row in rows], BATCH, SEED, 0)]


def trl_side(rows: list[Any], is_default: bool, folder: str) -> dict[str, Any]:
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    base = paths.base_dir() / paths.STARTER_NAME
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    logged: list[tuple[float, Mapping[str, Any]]] = []

    class Stock(DPOTrainer):
        """TRL's own, but for tokens and order, which are given."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset)

    class Clock(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                logged.append((time.monotonic(), dict(logs)))

    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    data = Dataset.from_list([{name: getattr(row, name) for name in columns} for row in rows])
    saving = {} if is_default else {"gradient_checkpointing": False, "precompute_ref_log_probs": True}
    args = DPOConfig(
        output_dir=folder, per_device_train_batch_size=BATCH, num_train_epochs=1, max_length=MAX_LENGTH, beta=0.1,
        learning_rate=1e-5, seed=SEED, bf16=False, use_cpu=True, logging_steps=1, save_strategy="no", report_to="none",
        disable_tqdm=True, **saving,
    )  # fmt: skip
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    began = time.monotonic()
    trainer = Stock(model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora)
    trainer.add_callback(Clock())
    trainer.train()
    return timed(began, logged)


def our_side(rows: list[Any], folder: str) -> list[dict[str, Any]]:
    from core import device, evaluate, trainer
    from core.loader import BASE, ResidentModel
    from core.settings import Method, Settings, Size

    base = paths.base_dir() / paths.STARTER_NAME
    os.environ["PLAYGROUND_HOME"] = folder
    paths.ensure_home()
    resident = ResidentModel(base, device.choose(0), paths.STARTER_NAME)
    found = []
    for click, rate in enumerate((1e-5, 2e-5)):
        logged: list[tuple[float, Mapping[str, Any]]] = []
        chosen = {"batch_size": BATCH, "accumulation": 1, "max_length": MAX_LENGTH, "lora_rank": RANK, "epochs": 1,
                  "loss": "sigmoid", "learning_rate": rate, "seed": SEED, "checkpoint_every": 1000}  # fmt: skip
        settings = Settings.of(Method.DPO, Size.SMALL, chosen)
        began = time.monotonic()
        reference = [(kept.chosen, kept.rejected) for kept in evaluate.kept_logps(resident, BASE, rows)]
        resident.open_policy(settings, "")
        hooks = trainer.Hooks(
            lambda: None, lambda: False, lambda row, to=logged: to.append((time.monotonic(), row)), lambda *_: None
        )
        trainer.train(resident, Method.DPO, settings, rows, reference, Path(folder) / f"run-{click}", hooks)
        resident.close_policy()
        found.append(timed(began, logged))
    return found


def timed(began: float, logged: list[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    """The median step but for the first, the whole with what comes before it, and the first step's figures."""
    import resource
    from statistics import median

    times = [at for at, _ in logged]
    steps = [later - at for at, later in zip(times, times[1:], strict=False)]
    return {
        "step_s": median(steps), "whole_s": times[-1] - began, "steps": len(times),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "first": {name: float(logged[0][1][name]) for name in FIGURES},
    }  # fmt: skip


def run_side(side: str, data: str, steps: int) -> None:
    rows = rows_in_order(data, steps)
    with tempfile.TemporaryDirectory() as folder:
        found = our_side(rows, folder) if side == "ours" else [trl_side(rows, side == "defaults", folder)]
    print(json.dumps(found))


def compare(data: str, steps: int) -> bool:
    found: dict[str, dict[str, Any]] = {}
    for side in ("defaults", "options", "ours"):
        command = [sys.executable, "-m", "tests.bench.training", "--side", side, "--data", data, "--steps", str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=paths.PROJECT_ROOT)
        if done.returncode:
            raise SystemExit(done.stderr)
        found |= zip((side, "again"), json.loads(done.stdout.splitlines()[-1]), strict=False)
    ours = found["ours"]
    print(f"{'':24}{'step, s':>9}{'whole, s':>10}{'peak, GB':>10}{'step by ours':>14}{'whole by ours':>15}")
    for side, label in SIDES.items():
        it = found[side]
        print(f"{label:24}{it['step_s']:9.2f}{it['whole_s']:10.1f}{it['peak_gb']:10.2f}"
              f"{it['step_s'] / ours['step_s']:14.2f}{it['whole_s'] / ours['whole_s']:15.2f}")  # fmt: skip
    are_good = [found[side]["step_s"] >= bar * ours["step_s"] for side, bar in BARS.items()]
    print(", ".join(f"{bar:g}x {SIDES[side]}: {'pass' if good else 'FAIL'}"
                    for (side, bar), good in zip(BARS.items(), are_good, strict=True)))  # fmt: skip
    for name in FIGURES:
        apart = max(abs(it["first"][name] / ours["first"][name] - 1) for it in found.values())
        are_good.append(apart <= TOLERANCE)
        print(f"first step's {name}: {ours['first'][name]:.4f}, at most {apart:.1e} apart "
              f"({'pass' if apart <= TOLERANCE else 'FAIL'} at {TOLERANCE:g})")  # fmt: skip
    return all(are_good)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="starter", help="a file of preference pairs, or 'starter'")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--side", choices=("defaults", "options", "ours"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        run_side(asked.side, asked.data, asked.steps)
        return
    print(f"DPO on {asked.data}: batch {BATCH}, max length {MAX_LENGTH}, LoRA {RANK}, {asked.steps} steps, float32")
    sys.exit(not compare(asked.data, asked.steps))


if __name__ == "__main__":
    main()
