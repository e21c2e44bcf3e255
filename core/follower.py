"""What every process of a run but the main one does: the same steps on its own share of each batch, and not a word.

Nothing is written here. The run's folder and the base have to be where the main process has them, on several machines
on a disk that all of them see.
"""

import signal
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core import device, paths, ranks, run_work, terminal
from core.errors import NonFiniteLoss
from core.loader import ResidentModel
from core.token_rows import tokenise

# Libraries warn of their own future; a terminal is for what concerns the user.
warnings.simplefilter("ignore")


@dataclass(frozen=True)
class Order:
    """A run that begins to train: its name and base, and what the main process has measured or found for it."""

    run: str
    model: str
    reference: Sequence[tuple[float, float]]
    resume_from: Path | None


def follow() -> None:
    """Train whatever the main process begins to train, until it lets this one go."""
    if not ranks.join(device.best_kind() == "cpu"):
        return
    # The launcher passes every signal on to all: the main process decides, and all stop at the same step.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    resident: ResidentModel | None = None
    while (order := ranks.told()) is not None:
        resident = resident or terminal.load(order.model)
        _train(resident, order)


def _train(resident: ResidentModel, order: Order) -> None:
    from core import trainer  # TRL comes with it, and `Order` is asked for at the engine's start

    folder = paths.run_dir(order.run)
    work = run_work.read(resident, folder)
    rows = tokenise(resident.template, work.data.train, work.settings.max_length)[0]
    resident.open_policy(work.settings, work.from_adapter)
    silent = trainer.Hooks(lambda: None, lambda: False, lambda row: None, lambda step, steps: None)
    try:
        trainer.train(
            resident, work.method, work.settings, rows, order.reference, folder / "checkpoints", silent,
            order.resume_from,
        )  # fmt: skip
    except NonFiniteLoss:
        pass  # the main process says so
    finally:
        resident.close_policy()
        device.release(resident.device.kind)
