"""A pair's prompt goes through the model once: both replies of a preference pair in one row.

TRL lays a batch of pairs out as rows [prompt, chosen] above rows [prompt, rejected]. Here a pair is one row [prompt,
chosen, last prompt token, rejected]: positions start again behind the prompt, and an additive 4-D mask keeps what comes
after the chosen reply from seeing it. Because the last prompt token stands before both replies, TRL's own next-token
head scores each unchanged, and what it says is put back where TRL's two rows have it: losses and metrics stay TRL's.

Stands alone: `install(model)` after DPOTrainer has been made is all that other TRL code needs.
"""

import functools
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from typing import Any

import torch

# Asked of the package's own files: TRL is dear to import, and no answer needs it.
TRL_VERSION = version("trl")
# Where it is proven equal to TRL's two rows, see tests/test_shared_prefix.py.
TRL_VERSIONS = ("1.16.",)
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
# A boolean mask is right on sdpa and silently wrong on eager; the additive one made here is right on both. Others take
# no 4-D mask.
ATTENTION = ("sdpa", "eager")
NO_LABEL = -100


@dataclass(frozen=True)
class Layout:
    """Where each position of the shared rows comes from. Shapes: (pairs, shared length)."""

    row: torch.Tensor  # of TRL's two rows
    column: torch.Tensor  # in that row, and so the position id
    is_token: torch.Tensor
    is_second: torch.Tensor  # the last prompt token again, and the rejected reply
    prompt_lengths: torch.Tensor  # (pairs, 1)
    chosen_lengths: torch.Tensor  # (pairs, 1)


def why_not(model: Any) -> str:
    """Why pairs of this model take two rows; empty where they can share one."""
    config = model.config.get_text_config()
    if not TRL_VERSION.startswith(TRL_VERSIONS):
        return f"sharing it has not been tried with TRL {TRL_VERSION}"
    if config.model_type not in ARCHITECTURES:
        return f"sharing it has not been tried with {config.model_type} models"
    if config._attn_implementation not in ATTENTION:
        return f"{config._attn_implementation} attention takes no mask that would part two replies"
    return ""


def install(model: Any, pad_to: int = 1) -> None:
    """Let `model(…, labels=…, fused_lm_head=True)` on TRL's layout of pairs compute each prompt once.

    `model` is the one that TRL has given its fused head, not a wrapper of it. Rows are filled up to a multiple of
    `pad_to` tokens. A batch that is no batch of pairs, or longer than the model's sliding window, which a 4-D mask
    would switch off, goes the stock way. ValueError where the model cannot share at all (`why_not`).
    """
    if reason := why_not(model):
        raise ValueError(f"No prompt can be shared: {reason}.")
    stock = model.forward
    window = getattr(model.config.get_text_config(), "sliding_window", None)

    @functools.wraps(stock)
    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        if args or not fused_lm_head or ids is None or mask is None or not _are_pairs(ids, mask, labels, window):
            asked = kwargs if labels is None else kwargs | {"labels": labels}
            return stock(*args, fused_lm_head=fused_lm_head, **asked)
        layout = lay_out(mask, labels, pad_to)
        kwargs |= {
            "input_ids": ids[layout.row, layout.column],
            "attention_mask": attention_mask(layout, model.dtype),
            "position_ids": layout.column,
        }
        shared = labels[layout.row, layout.column].masked_fill(~layout.is_token, NO_LABEL)
        return scattered(stock(fused_lm_head=True, labels=shared, **kwargs), layout, labels)

    model.forward = forward


def _first_label(labels: torch.Tensor) -> torch.Tensor:
    return (labels != NO_LABEL).int().argmax(dim=1, keepdim=True)


def _are_pairs(ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor | None, window: int | None) -> bool:
    """Whether the lower half repeats the upper half's prompts, each row padded on the right, with a reply, and not too
    long for the window."""
    if labels is None or mask.dim() != 2 or len(ids) % 2 or (window and ids.shape[1] > window):
        return False
    chosen, rejected = _first_label(labels).chunk(2)
    in_prompt = torch.arange(ids.shape[1], device=ids.device) < chosen
    upper, lower = ids.chunk(2)
    # One look at the device: each costs a wait there.
    return bool(
        (chosen == rejected).all()
        & (chosen > 0).all()
        & (mask[:, 0] == 1).all()
        & ((upper == lower) | ~in_prompt).all()
    )


def lay_out(mask: torch.Tensor, labels: torch.Tensor, pad_to: int = 1) -> Layout:
    """The shared rows of TRL's; `mask` and `labels` have shape (2 pairs, length)."""
    prompts = _first_label(labels).chunk(2)[0]
    chosen, rejected = (half - prompts for half in mask.sum(dim=1, keepdim=True).chunk(2))
    lengths = prompts + chosen + 1 + rejected
    width = -(-int(lengths.max()) // pad_to) * pad_to
    place = torch.arange(width, device=mask.device).expand(len(prompts), width)
    is_second = place >= prompts + chosen
    is_token = place < lengths
    column = torch.where(is_second, place - chosen - 1, place).where(is_token, 0)
    pair = torch.arange(len(prompts), device=mask.device)[:, None]
    return Layout(pair + len(prompts) * is_second, column, is_token, is_second, prompts, chosen)


def attention_mask(layout: Layout, dtype: torch.dtype) -> torch.Tensor:
    """Shape (pairs, 1, length, length), 0 where a position sees another and the dtype's minimum where not.

    The rejected reply sees the prompt but for its last token, of which it has a copy of its own.
    """
    width = layout.column.shape[1]
    place = torch.arange(width, device=layout.column.device)
    is_before = place[:, None] >= place
    is_shared = place < layout.prompt_lengths - 1
    sees = is_before & ((~layout.is_second)[:, :, None] | (layout.is_second | is_shared)[:, None, :])
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def scattered(out: Any, layout: Layout, labels: torch.Tensor) -> Any:
    """The head's output for the shared rows, (pairs, shared length - 1), as for TRL's: (2 pairs, length - 1)."""
    is_labelled = labels[:, 1:] != NO_LABEL
    place = torch.arange(labels.shape[1] - 1, device=labels.device).expand(len(layout.column), -1)
    # In the shared row a rejected token comes after the chosen reply and the last prompt token's copy.
    of_rejected = (place + layout.chosen_lengths + 1).clamp(max=layout.column.shape[1] - 2)

    def back(values: torch.Tensor) -> torch.Tensor:
        both = torch.cat([values.gather(1, place), values.gather(1, of_rejected)])
        return both.masked_fill(~is_labelled, 0)

    per_token = out.log_probs.shape
    named = {field.name: getattr(out, field.name) for field in fields(out)}
    moved = {
        name: back(value)
        for name, value in named.items()
        if isinstance(value, torch.Tensor) and value.shape == per_token and name != "label_mask"
    }
    return replace(out, **moved, label_mask=is_labelled)
