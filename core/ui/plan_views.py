"""What will run, in words: the methods' names, and a plan's rows, steps, cost and fit.

Pure: no gradio, no disk. Whatever was typed or read goes through `as_text`.
"""

from collections.abc import Mapping

from core.client import RunPlan
from core.settings import Method
from core.ui.views import as_text, count, duration, size

METHOD_NAMES: dict[str, str] = {Method.DPO: "DPO", Method.SFT: "SFT"}
METHOD_NOTES = {
    Method.DPO: "Direct preference optimisation: learns from each pair which of the two replies is preferred.",
    Method.SFT: "Supervised fine-tuning: learns to say the chosen reply, and ignores the rejected one.",
}

WONT_FIT = "won't fit"


def plan_words(plan: RunPlan, data: str, is_data_on_hub: bool = False) -> str:
    """What will run, in Markdown; `data` is what its pairs are called."""
    method = METHOD_NAMES.get(plan.method, str(plan.method))
    # Without the rows at hand there is no estimate, and their number is only what was asked for.
    is_read = plan.duration_s is not None
    pairs = count(plan.pairs, "pair") if is_read else f"up to {count(plan.pairs, 'pair')}"
    lines = (
        f"**{method}** on **{pairs}** from {as_text(data)}, {held_out_words(plan.held_out, is_read)}.",
        left_out_words(plan.left_out) if is_read else "Which rows are left out is known once they are read.",
        f"LoRA on **{as_text(plan.base)}**: {count(plan.steps, 'step')} of {count(plan.batch, 'pair')} each.",
        f"{_about(plan)} {download_words(plan.download_bytes, is_data_on_hub)}",
        fit_words(plan),
    )
    return "\n\n".join(line for line in lines if line)


def held_out_words(held_out: int, is_read: bool = True) -> str:
    if not held_out:
        return "none held out, so no held-out figures"
    return f"{held_out:,} held out to measure on" if is_read else f"up to {held_out:,} held out to measure on"


def left_out_words(left_out: Mapping[str, int]) -> str:
    if not left_out:
        return "No row is left out."
    total = sum(left_out.values())
    reasons = ", ".join(f"{number:,} {as_text(reason)}" for reason, number in left_out.items())
    return f"{count(total, 'row is', 'rows are')} left out: {reasons}."


def _about(plan: RunPlan) -> str:
    took = (
        "The time is known once it has begun" if plan.duration_s is None else f"About **{duration(plan.duration_s)}**"
    )
    if plan.memory_bytes is None:
        return f"{took}."
    return f"{took}; **{size(plan.memory_bytes)}** of the {size(plan.memory_limit)} of memory there are."


def fit_words(plan: RunPlan) -> str:
    """A warning where memory is short; nothing where it is not."""
    if plan.fit == "tight":
        return "**It is tight:** close other large programs first, or lower the batch size or the max length."
    if plan.fit == WONT_FIT:
        return (
            "**It won't fit here.** Choose a smaller base, or under Advanced a smaller batch size or max length, or "
            "gradient checkpointing."
        )
    return ""


def download_words(num_bytes: int, is_data_on_hub: bool) -> str:
    base = f"**{size(num_bytes)}** will be downloaded first." if num_bytes else ""
    data = "The data is fetched from the Hub when it starts, unless it was before." if is_data_on_hub else ""
    return f"{base} {data}".strip() or "Nothing is downloaded."
