"""Every reach into TRL's private parts, guarded by version, with the stock path as the fall-back.

TRL replaces `forward` on the base by one with a fused head, which scores replies without building the logits.
On CPU and MPS it scores every position, prompt and padding too; `compact` makes it score only the replies.
TRL is dear to import, and the engine imports this file at its start: so TRL comes with the first use of its head.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from core import shared_prefix

IS_KNOWN = shared_prefix.TRL_VERSION.startswith(shared_prefix.TRL_VERSIONS)


@contextlib.contextmanager
def compact() -> Iterator[None]:
    """Inside, the fused head computes only positions that have a label; stock TRL where its version is unknown."""
    if not IS_KNOWN:
        yield
        return
    from trl.trainer import utils

    stock = utils._use_triton
    utils._use_triton = lambda device: True
    try:
        yield
    finally:
        utils._use_triton = stock


def share_prompts(model: Any, pad_to: int = 1) -> bool:
    """Let a model that has TRL's head compute each pair's prompt once; False where it cannot."""
    if shared_prefix.why_not(model):
        return False
    shared_prefix.install(model, pad_to)
    return True


@contextlib.contextmanager
def scoring(model: Any, pad_to: int = 1) -> Iterator[None]:
    """Inside, `model(…, labels=…, fused_lm_head=True).log_probs` has shape (rows, positions - 1), 0 without label.

    A run that is going on has a head of its own there, and finds it again afterwards.
    """
    from trl.trainer.utils import add_fused_lm_head

    before = model.__dict__.get("forward")
    # TRL's head calls the forward that it finds for all but its own calls.
    remove(model)
    add_fused_lm_head(model)
    share_prompts(model, pad_to)
    try:
        with compact():
            yield
    finally:
        remove(model)
        if before is not None:
            model.forward = before


def remove(model: Any) -> None:
    """Give the base its own forward back: TRL leaves its own on the object for good."""
    model.__dict__.pop("forward", None)
