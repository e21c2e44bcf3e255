"""DPO and SFT of the starter model against TRL's own, on the same pairs: time, memory, and that the numbers are alike.

Each side runs in a process of its own, one after the other: TRL with its defaults (bf16 off: this is for a CPU), TRL at
the best that its own options give (no gradient checkpointing; for DPO the reference computed beforehand, for SFT rows
grouped by length), and the playground, which for DPO is clicked twice, the second time with another learning rate. TRL
takes the pairs in its own order, or with `--quick` in the playground's, so that what is learnt can be compared closely.
A number that is wrong fails.
Run it with `python -m tests.bench.training --data FILE`.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import paths
from tests.bench.table import Row, as_markdown, faster, gate, within

BATCH, MAX_LENGTH, RANK, SEED, HELD_OUT = 4, 512, 16, 42, 16
STEPS, QUICK_STEPS = 12, 1
QUICK_HELD_OUT = 4
RATE = {"dpo": 5e-5, "sft": 1e-4}
SIDES = ("defaults", "options", "ours")
COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
# How far apart what both say of one pair, or of the first step, may be; and what both have learnt after the same steps.
SAID, LEARNT = 1e-4, 0.02
OPTIONS = {
    "dpo": {"gradient_checkpointing": False, "precompute_ref_log_probs": True},
    "sft": {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"},
}
STARTER = paths.PROJECT_ROOT / "models" / "base" / paths.STARTER_NAME


def read_rows(data: str, steps: int) -> tuple[list[Any], list[Any]]:
    """The first pairs of a file, tokenised, and those after them that nobody trains on."""
    from transformers import AutoTokenizer

    from core import preferences
    from core.chat_template import ChatTemplate
    from core.token_rows import tokenise

    read = preferences.read(data, BATCH * steps + 2 * HELD_OUT, 0)
    rows, _ = tokenise(ChatTemplate(AutoTokenizer.from_pretrained(STARTER)), read.train, MAX_LENGTH)
    return rows[: BATCH * steps], rows[BATCH * steps : BATCH * steps + HELD_OUT]


def ordered(rows: list[Any], method: str) -> list[Any]:
    """In the order in which a run of the playground takes them."""
    from core.token_rows import grouped_order

    lengths = [row.shared_length if method == "dpo" else row.taught_length for row in rows]
    return [rows[i] for i in grouped_order(lengths, BATCH, SEED, 0)]


# Theirs


def trl_side(method: str, rows: list[Any], held_out: list[Any], is_default: bool, is_ordered: bool) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(STARTER), AutoTokenizer.from_pretrained(STARTER)
    stock = {"dpo": DPOTrainer, "sft": SFTTrainer}[method]
    sampler = {"_get_train_sampler": lambda self, *_: SequentialSampler(self.train_dataset)} if is_ordered else {}
    own_tokens = {"_prepare_dataset": lambda self, dataset, *_, **__: dataset}
    data = Dataset.from_list([dpo_row(row) if method == "dpo" else sft_row(row) for row in rows])
    logged, clock = stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "output_dir": folder, "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "seed": SEED,
            "max_length": MAX_LENGTH, "learning_rate": RATE[method], "lr_scheduler_type": "cosine", "bf16": False,
            "use_cpu": True, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        }  # fmt: skip
        options = {} if is_default else OPTIONS[method]
        if is_ordered:
            options = {name: value for name, value in options.items() if name != "train_sampling_strategy"}
        args = {"dpo": DPOConfig, "sft": SFTConfig}[method](**common, **options)
        lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        torch.manual_seed(SEED)
        began = time.monotonic()
        trainer = type("Stock", (stock,), own_tokens | sampler)(
            model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora, callbacks=[clock]
        )
        trainer.train()
    found = timed(began, logged)
    if "ref_chosen_logps" in trainer.train_dataset.column_names:
        columns = (trainer.train_dataset["ref_chosen_logps"], trainer.train_dataset["ref_rejected_logps"])
        found["reference"] = [[float(value) for value in column] for column in columns]
    return found | {"margins": margins(trainer.model, held_out)}


def dpo_row(row: Any) -> dict[str, list[int]]:
    return {name: getattr(row, name) for name in COLUMNS}


def sft_row(row: Any) -> dict[str, list[int]]:
    return {"input_ids": row.prompt_ids + row.chosen_ids, "labels": [-100] * len(row.prompt_ids) + row.chosen_ids}


def stopwatch() -> tuple[list[tuple[float, Mapping[str, Any]]], Any]:
    """A list of (when, what was logged) from the beginning of the first step, and the callback that fills it."""
    from transformers import TrainerCallback

    logged: list[tuple[float, Mapping[str, Any]]] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            logged.append((time.monotonic(), {}))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                logged.append((time.monotonic(), dict(logs)))

    return logged, Clock()


def margins(model: Any, rows: Sequence[Any]) -> list[float]:
    """log p(chosen) - log p(rejected) of each pair under a model, by plain logits: nobody's own arithmetic."""
    import torch

    def logp(prompt: list[int], reply: list[int]) -> float:
        ids = torch.tensor([prompt + reply])
        scores = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        return float(scores.gather(1, ids[0, len(prompt) :, None]).sum())

    model.eval()
    with torch.no_grad():
        return [logp(row.prompt_ids, row.chosen_ids) - logp(row.prompt_ids, row.rejected_ids) for row in rows]


# Ours


def our_side(method: str, rows: list[Any], held_out: list[Any]) -> dict[str, Any]:
    from core import device, paths
    from core.loader import ResidentModel

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PLAYGROUND_HOME"] = folder
        paths.ensure_home()
        resident = ResidentModel(STARTER, device.choose(0), paths.STARTER_NAME)
        found = click(resident, method, rows, Path(folder) / "first", RATE[method], held_out)
        found["floor_s"] = floor_s(resident.model, method, rows)
        if method == "dpo":
            again = click(resident, method, rows, Path(folder) / "again", 2 * RATE[method], [])
            found["again_s"] = again["whole_s"]
    return found


def click(
    resident: Any, method: str, rows: list[Any], folder: Path, rate: float, held_out: list[Any]
) -> dict[str, Any]:
    """A run's reference pass and training, as core/runner.py does them."""
    from core import evaluate, trainer
    from core.loader import BASE
    from core.settings import Method, Settings, Size

    chosen = {"batch_size": BATCH, "accumulation": 1, "max_length": MAX_LENGTH, "lora_rank": RANK, "epochs": 1,
              "learning_rate": rate, "warmup": 0.0, "seed": SEED, "checkpoint_every": 1000}  # fmt: skip
    settings = Settings.of(Method(method), Size.SMALL, chosen | ({"loss": "sigmoid"} if method == "dpo" else {}))
    logged: list[tuple[float, Mapping[str, Any]]] = []
    began = time.monotonic()
    reference = []
    if method == "dpo":
        reference = [(kept.chosen, kept.rejected) for kept in evaluate.kept_logps(resident, BASE, rows)]
    resident.open_policy(settings, "")
    hooks = trainer.Hooks(
        serve=lambda: None,
        is_stopping=lambda: False,
        on_row=lambda row: logged.append((time.monotonic(), row)),
        on_begin=lambda *_: logged.append((time.monotonic(), {})),
    )
    trainer.train(resident, Method(method), settings, rows, reference, folder, hooks)
    found = timed(began, logged)
    found["reference"] = [list(side) for side in zip(*reference, strict=True)]
    found["margins"] = margins(resident.model, held_out)
    resident.close_policy()
    return found


def floor_s(model: Any, method: str, rows: Sequence[Any]) -> float:
    """Seconds of the matrix products that these rows cannot do without: 4 N tokens, and the head's for scored ones.

    N tokens forward and N back for every frozen weight, a multiplication and an addition each; measured at a batch's
    size, without padding, activations or the adapter.
    """
    import torch

    tokens, scored = (sum(count(row, method)[i] for row in rows) for i in (0, 1))
    a_step = math.ceil(tokens * BATCH / len(rows)), math.ceil(scored * BATCH / len(rows))
    head = model.get_output_embeddings()
    shapes: dict[tuple[int, int], int] = {}
    for module in model.modules():
        if type(module) is torch.nn.Linear and module is not head and min(module.weight.shape) > RANK:
            shapes[tuple(module.weight.shape)] = shapes.get(tuple(module.weight.shape), 0) + 1
    seconds = sum(many * product_s(shape, a_step[0]) for shape, many in shapes.items())
    return (seconds + product_s(tuple(head.weight.shape), a_step[1])) * len(rows) / BATCH


def product_s(shape: tuple[int, int], tokens: int) -> float:
    """A product with a weight of this shape (out, in), forward and back; the best of three."""
    import torch

    weight, x, gradient = torch.randn(shape), torch.randn(tokens, shape[1]), torch.randn(tokens, shape[0])
    times = []
    for _ in range(4):
        began = time.perf_counter()
        x @ weight.T
        gradient @ weight
        times.append(time.perf_counter() - began)
    return min(times[1:])


def count(row: Any, method: str) -> tuple[int, int]:
    """Tokens of a row that go through the model, and how many of them are scored."""
    if method == "dpo":
        return row.shared_length, len(row.chosen_ids) + len(row.rejected_ids)
    return row.taught_length, len(row.chosen_ids)


# Both


def timed(began: float, logged: list[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    """Seconds of all steps, and of the whole with what comes before them; what the first step said; the peak."""
    first = logged[1][1]
    names = ("loss", "rewards/margins", "grad_norm")
    return {
        "steps_s": logged[-1][0] - logged[0][0], "whole_s": logged[-1][0] - began, "steps": len(logged) - 1,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "first": {name: float(first[name]) for name in names if name in first},
    }  # fmt: skip


def run_side(asked: argparse.Namespace) -> None:
    rows, held_out = read_rows(asked.data, asked.steps)
    if asked.is_ordered:
        rows, held_out = ordered(rows, asked.method), held_out[:QUICK_HELD_OUT]
    if asked.side == "ours":
        found = our_side(asked.method, rows, held_out)
    else:
        found = trl_side(asked.method, rows, held_out, asked.side == "defaults", asked.is_ordered)
    print(json.dumps(found))


def measure(is_quick: bool, data: str = "starter", steps: int = STEPS) -> list[Row]:
    """Both methods; the quick form leaves TRL's defaults out."""
    if is_quick:
        sides, steps = SIDES[1:], QUICK_STEPS
    else:
        sides = SIDES
    return [row for method in ("dpo", "sft") for row in measure_method(method, data, steps, sides, is_quick)]


def measure_method(method: str, data: str, steps: int, sides: Sequence[str], is_ordered: bool) -> list[Row]:
    """The sides one after the other, each in a process of its own."""
    found: dict[str, dict[str, Any]] = {}
    for side in sides:
        command = [sys.executable, "-m", "tests.bench.training", "--method", method, "--side", side, "--data", data,
                   "--steps", str(steps), *(["--is-ordered"] if is_ordered else [])]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=paths.PROJECT_ROOT)
        if done.returncode:
            raise SystemExit(done.stderr)
        found[side] = json.loads(done.stdout.splitlines()[-1])
        print(f"{method} {side}: {found[side]['whole_s']:.0f} s", file=sys.stderr, flush=True)
    return [*times(method, found), *gates(method, found, is_ordered)]


# What is compared: of ours, of which side, how many times as fast it is to be.
SPEEDS = {
    "dpo": (
        ("DPO, all steps", "steps_s", "options", "steps_s", 2),
        ("DPO, all steps", "steps_s", "defaults", "steps_s", 4),
        ("DPO, first run with its reference", "whole_s", "options", "whole_s", None),
        ("DPO, first run with its reference", "whole_s", "defaults", "whole_s", 3),
        ("DPO, second click against their first", "again_s", "options", "whole_s", None),
        ("DPO, second click against their first", "again_s", "defaults", "whole_s", 5),
    ),
    "sft": (
        ("SFT, all steps", "steps_s", "options", "steps_s", 1.5),
        ("SFT, all steps", "steps_s", "defaults", "steps_s", 1.5),
    ),
}
NAMES = {"options": "TRL's best options", "defaults": "TRL's defaults"}


def times(method: str, found: Mapping[str, Any]) -> list[Row]:
    ours, name = found["ours"], method.upper()
    rows = [
        faster(f"{what}; {NAMES[side]}", ours[own], found[side][their], bar)
        for what, own, side, their, bar in SPEEDS[method]
        if side in found
    ]
    least = min(found[side]["peak_gb"] for side in found if side != "ours")
    return [
        *rows,
        within(f"{name}, all steps; their matrix products alone", ours["steps_s"], ours["floor_s"], 2),
        within(f"{name}, peak memory; TRL's lowest", ours["peak_gb"], least, 1, "GB"),
    ]


def gates(method: str, found: Mapping[str, Any], is_ordered: bool) -> list[Row]:
    ours, theirs = found["ours"], found["options"]
    rows = [learnt(method, ours["margins"], theirs["margins"], is_ordered)]
    if method == "dpo":
        apart = max(
            abs(a / b - 1)
            for mine, other in zip(ours["reference"], theirs["reference"], strict=True)
            for a, b in zip(mine, other, strict=True)
        )
        rows += [
            gate(
                "DPO, log-probabilities of every reply, apart by",
                f"{apart:.1e}",
                "",
                f"at most {SAID:g}",
                apart <= SAID,
            ),
            equals("DPO, first loss", ours["first"]["loss"], math.log(2)),
            equals("DPO, first margin", ours["first"]["rewards/margins"], 0.0),
        ]
    elif is_ordered:
        rows.append(equals("SFT, first loss", ours["first"]["loss"], theirs["first"]["loss"]))
    return rows


def equals(what: str, ours: float, theirs: float) -> Row:
    is_alike = abs(ours - theirs) <= SAID * max(1, abs(theirs))
    return gate(what, f"{ours:.4f}", f"{theirs:.4f}", f"within {SAID:g}", is_alike)


def learnt(method: str, ours: Sequence[float], theirs: Sequence[float], is_ordered: bool) -> Row:
    """How far the two adapters part held-out pairs. The same steps must learn the same; steps over the same pairs in
    another order, the same within the noise of the difference."""
    from core.stats import mean_interval

    apart = mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])
    means = [math.fsum(side) / len(side) for side in (ours, theirs)]
    is_alike = abs(apart.mean) <= LEARNT if is_ordered else apart.low <= 0 <= apart.high
    bar = f"within {LEARNT:g}" if is_ordered else f"0 in {apart.low:.2f} to {apart.high:.2f}"
    what = f"{method.upper()}, held-out margin in nats"
    return gate(what, f"{means[0]:.3f}", f"{means[1]:.3f}", bar, is_alike)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="starter", help="a file of preference pairs, or 'starter'")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--quick", action="store_true", help="one step, in the playground's order, no defaults")
    for hidden in ("--method", "--side"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--is-ordered", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        run_side(asked)
    else:
        rows = measure(asked.quick, asked.data, asked.steps)
        print(as_markdown(rows))
        sys.exit(any(row.is_gate and not row.is_good for row in rows))


if __name__ == "__main__":
    main()
