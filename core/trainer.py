"""SFT and DPO through TRL on the resident weights: one adapter trained, everything else as it was.

TRL owns losses, metrics and the loop. What differs from stock stands here: pairs come tokenised, with their
reference log-probabilities; batches are grouped by length; a step that leaves the finite numbers ends the run;
checkpoints are the ones of `checkpoints`; and between micro-steps the run serves what waits.
TRL comes with this file, so it is imported when a run begins.
"""

import math
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from core import checkpoints, fused_head, lora_pass, ranks
from core.device import memory_used
from core.errors import NonFiniteLoss
from core.loader import POLICY, ResidentModel
from core.settings import Method, Settings
from core.token_rows import PAD_TO, GroupedSampler, TokenPair

MAX_GRAD_NORM = 1.0
NOT_FINITE = (
    "The weights were no longer finite after step {}, so training stopped there. Lower the learning rate and start "
    "again; the last checkpoint is kept."
)


@dataclass(frozen=True)
class Hooks:
    """What a run tells and asks while it goes on. `serve` is called between micro-steps, `look(step)` after each of
    the steps `look_at`; what it finds stands in that step's row."""

    serve: Callable[[], None]
    is_stopping: Callable[[], bool]
    on_row: Callable[[Mapping[str, Any]], None]
    on_begin: Callable[[int, int], None]
    look: Callable[[int], Mapping[str, Any]] = lambda step: {}
    look_at: Collection[int] = ()


@dataclass
class Pace:
    """What has gone through the model since the last row, and how long that took without anything else."""

    pairs: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def take(self) -> dict[str, float]:
        """As a row has it; counting begins anew."""
        rates = {"pairs_per_s": self.pairs / self.seconds, "tokens_per_s": self.tokens / self.seconds}
        self.pairs = self.tokens = 0
        self.seconds = 0.0
        return rates


class _Reporter(TrainerCallback):
    """Turns the Trainer's events into calls of the hooks, and a wish to stop into a checkpoint and an end."""

    def __init__(self, hooks: Hooks, pace: Pace) -> None:
        self.hooks = hooks
        self.pace = pace
        self.seen: Mapping[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.hooks.on_begin(state.global_step, state.max_steps)

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.hooks.serve()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.hooks.serve()
        if state.global_step in self.hooks.look_at and not self.hooks.is_stopping():
            self.seen = self.hooks.look(state.global_step)
        if ranks.any_of(self.hooks.is_stopping()) or state.global_step >= state.max_steps:
            control.should_save = True
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            taken = {**self.pace.take(), "memory_bytes": memory_used(args.device.type)}
            self.hooks.on_row({"step": state.global_step, **logs, **taken, **self.seen})
            self.seen = {}


class _OnResident:
    """What both trainers do differently from stock; mixed in before the TRL class."""

    checkpoint_root: Path
    made_of: Mapping[str, Any]
    rows_lengths: Sequence[int]
    sequences_a_pair = 1
    pace: Pace
    # The Trainer's own.
    args: Any
    state: Any
    model: Any

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedSampler:
        # accelerate deals the batches out in turn: what the processes have at once is one batch of one process.
        size = self.args.per_device_train_batch_size * ranks.count()
        return GroupedSampler(self.rows_lengths, size, self.args.seed, is_filled=ranks.count() > 1)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        began = time.monotonic()
        self.pace.pairs += len(inputs["input_ids"]) // self.sequences_a_pair * ranks.count()
        self.pace.tokens += int(inputs["attention_mask"].sum()) * ranks.count()
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        # Of all processes, so that they leave together. Waits for the device, so that the time is the step's.
        value = ranks.total(float(loss))
        self.pace.seconds += time.monotonic() - began
        if not math.isfinite(value):
            step = self.state.global_step + 1
            raise NonFiniteLoss(
                f"The loss was {value} at step {step}, so training stopped there. Lower the learning rate and "
                "start again; the last checkpoint is kept."
            )
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # A gradient that was no number shows in the next loss only. All processes look, so that they leave together.
        if not all(p.isfinite().all() for p in self.model.parameters() if p.requires_grad):
            raise NonFiniteLoss(NOT_FINITE.format(self.state.global_step))
        if ranks.is_main():
            checkpoints.save(self, self.checkpoint_root, self.made_of)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoints.load_adapter(self.model, Path(resume_from_checkpoint))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)  # type: ignore[misc]
        if checkpoint is not None and self.args.device.type == "mps":
            checkpoints.load_mps_state(Path(checkpoint))


class ResidentDPOTrainer(_OnResident, DPOTrainer):
    """DPO with the reference's log-probabilities as columns of the data."""

    sequences_a_pair = 2
    # TRL's own.
    loss_types: list[str]
    loss_weights: list[float]

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if ranks.count() > 1 and "sft" in self.loss_types:
            # That term is a mean over tokens, and the mean of the processes' means would be another one.
            tokens = int(inputs["completion_mask"].chunk(2)[0].sum())
            self.loss_weights[self.loss_types.index("sft")] = tokens * ranks.count() / ranks.total(tokens)
        return super().compute_loss(model, inputs, *args, **kwargs)


class ResidentSFTTrainer(_OnResident, SFTTrainer):
    """SFT on the chosen reply alone."""


def _arguments(settings: Settings, folder: Path, kind: str) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "max_length": settings.max_length,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": MAX_GRAD_NORM,
        "seed": settings.seed,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "save_strategy": "steps",
        "save_steps": settings.checkpoint_every,
        "logging_steps": 1,
        # The filter would log a NaN as 0.0 and go on.
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        # The base is frozen in its own precision and the adapter is float32: autocast would wrap the base's forward.
        "bf16": False,
        "fp16": False,
        "use_cpu": kind == "cpu",
        # Several processes wait for a gradient of every parameter in training, and each has one at every step.
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": False,
        "torch_empty_cache_steps": 50 if kind == "mps" else None,
    }


def _sft(resident: ResidentModel, rows: Sequence[TokenPair], _: Any, common: dict[str, Any], settings: Settings) -> Any:
    data = Dataset.from_list(
        [{"input_ids": r.prompt_ids + r.chosen_ids, "labels": [-100] * len(r.prompt_ids) + r.chosen_ids} for r in rows]
    )
    args = SFTConfig(**common, pad_to_multiple_of=PAD_TO.get(resident.device.kind))
    trainer = ResidentSFTTrainer(
        model=resident.peft, args=args, train_dataset=data, processing_class=resident.tokenizer
    )
    trainer.rows_lengths = [row.taught_length for row in rows]
    return trainer


def _dpo(
    resident: ResidentModel,
    rows: Sequence[TokenPair],
    reference: Sequence[tuple[float, float]],
    common: dict[str, Any],
    settings: Settings,
) -> Any:
    data = Dataset.from_list(
        [
            {
                "prompt_ids": r.prompt_ids,
                "chosen_ids": r.chosen_ids,
                "rejected_ids": r.rejected_ids,
                "ref_chosen_logps": chosen,
                "ref_rejected_logps": rejected,
            }
            for r, (chosen, rejected) in zip(rows, reference, strict=True)
        ]
    )
    args = DPOConfig(
        **common,
        beta=settings.beta,
        loss_type=settings.loss.split("+"),
        # TRL applies it to the sigmoid loss too, where it would be another loss than its name says.
        label_smoothing=settings.label_smoothing if settings.loss.startswith("robust") else 0.0,
        # True would set every dropout of the resident model to 0 for good.
        disable_dropout=False,
        precompute_ref_log_probs=False,
        pad_to_multiple_of=PAD_TO.get(resident.device.kind),
    )
    trainer = ResidentDPOTrainer(
        model=resident.peft, args=args, train_dataset=data, processing_class=resident.tokenizer
    )
    # The columns are there already: said before, TRL would hash all weights and compute them itself.
    trainer.precompute_ref_logps = True
    resident.drop_reference()
    is_shared = fused_head.share_prompts(resident.model, PAD_TO.get(resident.device.kind, 1))
    trainer.rows_lengths = [row.shared_length if is_shared else row.length for row in rows]
    return trainer


TRAINERS = {Method.SFT: _sft, Method.DPO: _dpo}


def train(
    resident: ResidentModel,
    method: Method,
    settings: Settings,
    rows: Sequence[TokenPair],
    reference: Sequence[tuple[float, float]],
    folder: Path,
    hooks: Hooks,
    resume_from: Path | None = None,
    made_of: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Train the open policy on `rows`; `reference` holds (chosen, rejected) log-probabilities for DPO. `made_of` goes
    into every checkpoint.

    Every process of a run calls it with the same arguments but for the hooks; only the main one's are asked and told.
    Raises NonFiniteLoss, in all of them at once, and whatever memory or disk raise. On every way out the base has its
    own forward again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = TRAINERS[method](
            resident, rows, reference, _arguments(settings, folder, resident.device.kind), settings
        )
    trainer.checkpoint_root, trainer.made_of = folder, made_of
    trainer.remove_callback(PrinterCallback)
    trainer.pace = Pace()
    trainer.add_callback(_Reporter(hooks, trainer.pace))
    lora_pass.install(resident.model, POLICY)
    try:
        with fused_head.compact():
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    finally:
        lora_pass.remove(resident.model)
        fused_head.remove(resident.model)
        if settings.gradient_checkpointing:
            resident.model.gradient_checkpointing_disable()
            resident.model.disable_input_require_grads()
        trainer.model.zero_grad()
