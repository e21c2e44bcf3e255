"""A base of Mistral-7B's shape in half precision on a GPU: peak memory against the estimate, and time against TRL's.

Its weights are drawn, so nothing is said of what it learns; pairs have HH-RLHF's lengths. `--layers 2` tries it on any
machine. Run it with `python -m tests.bench.large --data FILE`.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from core import device, estimate, paths, trainer
from core.estimate import Job, Shape
from core.loader import ResidentModel
from core.settings import Method, Settings, Size
from core.token_rows import TokenPair, grouped_order
from tests.bench.growth import pair_of
from tests.bench.training import STARTER, dpo_row, read_rows, stopwatch

WORDS, STEPS, RANK, SEED = 49_152, 4, 16, 42
# (pairs in a batch, tokens of prompt and reply, gradient checkpointing)
LOADS = ((1, 512, False), (2, 512, False), (4, 512, False), (1, 512, True), (2, 1024, True), (4, 512, True))


def drawn_base(folder: Path, layers: int) -> Path:
    """Mistral-7B's shape, but for the starter's larger vocabulary, whose tokenizer it has."""
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=WORDS, num_hidden_layers=layers, sliding_window=None, rope_theta=1e6, dtype="bfloat16",
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.set_default_dtype(torch.bfloat16)
        model = MistralForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(STARTER).save_pretrained(folder)
    return folder


def settings_of(batch: int, is_checkpointing: bool, max_length: int) -> Settings:
    chosen = {"batch_size": batch, "accumulation": 1, "max_length": max_length, "lora_rank": RANK, "epochs": 1,
              "loss": "sigmoid", "seed": SEED, "warmup": 0.0, "checkpoint_every": 1000,
              "gradient_checkpointing": is_checkpointing}  # fmt: skip
    return Settings.of(Method.DPO, Size.LARGE, chosen)


def trained(resident: ResidentModel, rows: list[TokenPair], settings: Settings, folder: Path) -> dict[str, float]:
    """Seconds of all steps but the first, and the peak of them all."""
    kind, times = resident.device.kind, [0.0]
    device.release(kind)
    resident.open_policy(settings)
    hooks = trainer.Hooks(
        serve=lambda: None,
        is_stopping=lambda: False,
        on_row=lambda row: times.append(time.monotonic()),
        on_begin=lambda *_: None,
    )
    with device.MemoryWatch(kind) as memory:
        trainer.train(resident, Method.DPO, settings, rows, [(-50.0, -50.0)] * len(rows), folder, hooks)
    resident.close_policy()
    return {"steps_s": times[-1] - times[1], "peak_gb": memory.peak / 1e9}


def against_estimate(resident: ResidentModel, folder: Path) -> None:
    """Seen and reckoned peaks of each load."""
    config = resident.model.config.to_dict()
    shape = Shape.of(config, resident.num_parameters, resident.device.dtype.itemsize)
    assert shape
    for batch, length, is_checkpointing in LOADS:
        settings = settings_of(batch, is_checkpointing, length + 64)
        rows = [pair_of(length)] * (2 * batch)
        reckoned = sum(estimate.parts(shape, Job(Method.DPO, settings, rows), resident.device.kind).values()) / 1e9
        seen = trained(resident, rows, settings, folder / f"load-{batch}-{length}-{is_checkpointing}")
        how = "checkpointing" if is_checkpointing else ""
        print(f"{batch} x {length} {how:>13}  {seen['steps_s']:.2f} s a step, peak {seen['peak_gb']:.2f} GB, "
              f"reckoned {reckoned:.2f} ({seen['peak_gb'] / reckoned:.2f}x)", flush=True)  # fmt: skip


def theirs(base: Path, rows: list[TokenPair], batch: int, is_checkpointing: bool) -> dict[str, float]:
    """TRL on the same rows in the same order, in bfloat16 as is its default; the reference computed beforehand."""
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    kind = device.best_kind()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).to(kind)
    own = {
        "_prepare_dataset": lambda self, dataset, *_, **__: dataset,
        "_get_train_sampler": lambda self, *_: SequentialSampler(self.train_dataset),
    }
    references = {"ref_chosen_logps": -50.0, "ref_rejected_logps": -50.0}
    logged, clock = stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        args = DPOConfig(
            output_dir=folder, per_device_train_batch_size=batch, num_train_epochs=1, seed=SEED, max_length=1024,
            gradient_checkpointing=is_checkpointing, bf16=kind == "cuda", use_cpu=kind == "cpu", logging_steps=1,
            save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        made = type("Stock", (DPOTrainer,), own)(
            model=model, args=args, train_dataset=Dataset.from_list([dpo_row(row) | references for row in rows]),
            processing_class=AutoTokenizer.from_pretrained(base), callbacks=[clock],
            peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
        # Said before, it would fail over columns that are there already.
        made.precompute_ref_logps = True
        with device.MemoryWatch(kind) as memory:
            made.train()
    return {"steps_s": logged[-1][0] - logged[1][0], "peak_gb": memory.peak / 1e9}


def beside(asked: argparse.Namespace, base: Path, resident: ResidentModel, folder: Path) -> None:
    """Steps over real lengths, with checkpointing and without; TRL's after ours, when ours has left the memory."""
    rows, _ = read_rows(asked.data, asked.steps)
    rows = [rows[i] for i in grouped_order([row.shared_length for row in rows], asked.batch, SEED, 0)]
    ours = {is_on: trained(resident, rows, settings_of(asked.batch, is_on, 1024), folder / f"real-{is_on}")
            for is_on in (False, True)}  # fmt: skip
    del resident.model, resident.peft
    device.release(device.best_kind())
    for is_on, mine in ours.items():
        other = theirs(base, rows, asked.batch, is_on)
        device.release(device.best_kind())
        print(compared(f"{len(rows)} pairs, {'' if is_on else 'no '}checkpointing", mine, other), flush=True)


def compared(what: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    return (
        f"{what}: ours {ours['steps_s']:.2f} s, {ours['peak_gb']:.1f} GB; TRL's {theirs['steps_s']:.2f} s, "
        f"{theirs['peak_gb']:.1f} GB; {theirs['steps_s'] / ours['steps_s']:.2f} times as fast"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="starter", help="a file of preference pairs, or 'starter'")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["PLAYGROUND_HOME"] = home
        paths.ensure_home()
        base = drawn_base(Path(home) / "base", asked.layers)
        began = time.monotonic()
        kind = device.best_kind()
        resident = ResidentModel(base, device.Device(kind, torch.bfloat16, "sdpa", "as a large base"), "drawn")
        said = {"parameters": resident.num_parameters, "loaded_s": round(time.monotonic() - began, 1),
                "on": torch.cuda.get_device_name() if kind == "cuda" else kind}  # fmt: skip
        print(json.dumps(said), flush=True)
        against_estimate(resident, Path(home))
        beside(asked, base, resident, Path(home))
        print(f"host memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
