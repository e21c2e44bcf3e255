"""A run on the tiny model as the tests of its faults want it: prepared, done, cut off, gone on with."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core import paths, run_progress, run_request, runner, runs
from core.client import RunRequest, Turn
from core.generate import answer
from core.loader import BASE, ResidentModel
from core.messages import ask
from core.runs import RunStatus
from core.settings import Decoding

FAST = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4, "accumulation": 1, "lora_rank": 4, "max_length": 256,
        "checkpoint_every": 2, "looks": 0}  # fmt: skip
STEPS = 10


def prepared(resident: ResidentModel, pairs_file: Path, method: str = "sft", **changes) -> str:
    asked = RunRequest(method, str(pairs_file), held_out=0, settings=FAST | changes.pop("settings", {}), **changes)
    return run_request.prepare(resident, *run_request.check(asked)).name


def train(resident: ResidentModel, name: str, is_resumed: bool = False, **control) -> runs.Run:
    return runner.execute(resident, name, run_progress.Control(**control), is_resumed)


def train_with(resident: ResidentModel, pairs_file: Path, monkeypatch: pytest.MonkeyPatch, wrapped) -> runs.Run:
    """A run whose steps are what `wrapped` makes of the Trainer's own; afterwards they are those again."""
    from transformers import Trainer

    name = prepared(resident, pairs_file)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", wrapped(Trainer.training_step))
        return train(resident, name)


def at_step(name: str, step: int, does: Callable[[], None]) -> Callable[[], None]:
    """What a run calls between its steps: `does`, once so many steps are logged, and only then."""
    done: list[bool] = []

    def serve() -> None:
        if not done and len(runs.read_metrics(name)) >= step:
            done.append(True)
            does()

    return serve


def cut_off(resident: ResidentModel, name: str) -> Path:
    """The run as it is once its process was killed after a few steps: its checkpoints' folder."""
    control = run_progress.Control()
    control.serve = at_step(name, 4, lambda: setattr(control, "is_stopping", True))
    stopped = runner.execute(resident, name, control)
    assert stopped.status is RunStatus.STOPPED
    shutil.rmtree(runs.adapter_dir(name))
    runs.write(stopped, status=RunStatus.INTERRUPTED)
    return paths.run_dir(name) / "checkpoints"


def weights(name: str) -> bytes:
    return (runs.adapter_dir(name) / "adapter_model.safetensors").read_bytes()


def still_talks(resident: ResidentModel) -> bool:
    resident.prove_base()
    return answer(resident, [Turn(BASE, ask("Hello"))], Decoding(max_new_tokens=2))[0].num_tokens > 0
