"""One run on several processes: how many there are, which of them this is, and what they tell each other.

`accelerate launch` starts the program once a card. The main process is the one that a user meets: it reads what is
asked, says every word and writes every file. The others follow (`follower`): they train their share of each batch.
Gradients, shares and gathered figures are the Trainer's and accelerate's; what stands here is the rest of it.
Imports nothing heavy until there are several.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

from core.errors import NonFiniteLoss

# The others wait while the main process measures and answers. Who waits for a dead one is ended by the launcher.
PATIENCE = datetime.timedelta(days=7)
SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")

_num = 1
_is_lost = False


def count() -> int:
    """How many processes train together; 1 unless they have joined."""
    return _num


def is_main() -> bool:
    """Whether this process is the one that a user meets, as the launcher says before anything is imported."""
    # A cluster's job may have a RANK with no launcher in it.
    return "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"


def is_sharding() -> bool:
    """Whether the launcher was asked to spread the weights instead of the batch."""
    return any(os.environ.get(name, "").lower() == "true" for name in SHARDING)


def join(is_on_cpu: bool) -> bool:
    """Wait until all processes of the launcher are here; False where they cannot be brought together on this device."""
    global _num
    # The user's own configuration may ask for autocast, which would wrap the base's forward for good.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if launched == 1:
        return True
    from accelerate import PartialState

    _num = PartialState(cpu=is_on_cpu, timeout=PATIENCE).num_processes
    return _num == launched


def tell(value: Any) -> None:
    """Give `value` to all others, each of which waits in `told`."""
    if _num > 1 and not _is_lost:
        _broadcast(value)


def told() -> Any:
    """What the main process tells next."""
    return _broadcast(None)


def _broadcast(value: Any) -> Any:
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def dismiss() -> None:
    """Let the others end."""
    with contextlib.suppress(RuntimeError):  # one of them is gone already
        tell(None)


def any_of(flag: bool) -> bool:
    """Whether it is so in any process; all must ask at the same point."""
    return bool(total(flag)) if _num > 1 else flag


def total(number: float) -> float:
    """The sum over all processes; all must ask at the same point."""
    if _num == 1:
        return number
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    return float(reduce(torch.tensor(float(number), device=PartialState().device), "sum"))


@contextlib.contextmanager
def in_step() -> Iterator[None]:
    """Inside, all processes do the same. Where this one alone falls out of it, it tells the others nothing any more:
    they wait for something else, and the launcher ends them when this one has ended."""
    global _is_lost
    try:
        yield
    except NonFiniteLoss:  # all leave at the same step
        raise
    except BaseException:
        _is_lost = _num > 1
        raise
