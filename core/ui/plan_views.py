"""What will run, in words and one picture: methods and losses, what was set and why, and a plan's rows, cost and fit.

Pure: no gradio, no disk. Whatever was typed or read goes through `as_text`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core.client import RunPlan
from core.presets import KNOWN, PRESET_NOTES, Move, Seat
from core.settings import TRAINING, Method, Setting, Settings, Size
from core.ui.views import as_text, count, duration, size

METHOD_NAMES: dict[str, str] = {Method.DPO: "DPO", Method.SFT: "SFT", Method.SFT_DPO: "SFT, then DPO"}
METHOD_NOTES = {
    Method.DPO: "Direct preference optimisation: learns from each pair which of the two replies is preferred.",
    Method.SFT: "Supervised fine-tuning: learns to say the chosen reply, and ignores the rejected one.",
    Method.SFT_DPO: "SFT teaches the chosen replies first; then DPO starts from the SFT adapter and is held to it.",
}
LOSS_NOTES = {
    "sigmoid": "The DPO paper's own: raises the odds of the chosen reply over the rejected one (Rafailov et al. 2023).",
    "ipo": "Aims at a fixed margin, so that a pair that is told apart is left alone (Azar et al. 2023).",
    "hinge": "Stops teaching a pair as soon as its margin is wide enough (SLiC, Zhao et al. 2023).",
    "robust": "Reckons with pairs that are labelled the wrong way round (Chowdhury et al. 2024).",
    "apo_zero": "Raises the chosen and lowers the rejected reply, each by itself; for chosen replies that are better "
    "than the model's own (D'Oosterlinck et al. 2024).",
    "sigmoid_norm": "As sigmoid, but by the token, so that a long reply weighs no more (Tülu 3, Lambert et al. 2024).",
}
TERM_NOTE = "Also teaches the chosen reply itself, which changes what a small model says (Pang et al. 2024)."

SIZE_NAMES = {Size.SMALL: "a small base", Size.LARGE: "a large base"}
WONT_FIT = "won't fit"


def shown_value(setting: Setting, value: Any) -> Any:
    """`value` as its field shows it: rates as 2e-4, the rest as they are."""
    if setting.step is None and isinstance(value, float):
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return value


# --- what was set -------------------------------------------------------------------------------------


def moved_words(old: Seat, new: Seat, moves: Sequence[Move]) -> str:
    """What a change has set, from what, and why; empty where it has set nothing."""
    if not moves:
        return ""
    if new.preset != old.preset:
        head = f"**Set for {new.preset}.** {PRESET_NOTES[new.preset]}"
    elif new.method != old.method:
        head = f"**Set for {METHOD_NAMES[new.method]}:**"
    else:
        head = f"**Set for {SIZE_NAMES[new.size] if new.size != old.size else new.loss}:**"
    return "\n".join([head, "", *(f"- {_moved(move)}" for move in moves)])


def _moved(move: Move) -> str:
    before, after = _value(move.setting, move.before), _value(move.setting, move.after)
    own = ", in place of yours" if move.is_own else ""
    return f"{move.setting.label} {before} → **{after}**{own}" + (f": {move.reason}." if move.reason else "")


def turned_words(turned: Sequence[Move]) -> str:
    """What the person has set otherwise than it would be."""
    if not turned:
        return ""
    said = (f"{label(m.setting)} {_value(m.setting, m.after)} instead of {_value(m.setting, m.before)}" for m in turned)
    return f"Changed: {', '.join(said)}."


def fix_label(fix: Mapping[str, Any]) -> str:
    """What the button that applies `fix` says."""
    return "Apply: " + ", ".join(f"{label(KNOWN[name])} {_value(KNOWN[name], value)}" for name, value in fix.items())


def label(setting: Setting) -> str:
    """The setting's label inside a sentence."""
    return setting.label if setting.label.startswith("LoRA") else setting.label[0].lower() + setting.label[1:]


def _value(setting: Setting, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    shown = shown_value(setting, value)
    return f"{shown:g}" if isinstance(shown, float) else as_text(str(shown)) or "nothing"


# --- what will run ------------------------------------------------------------------------------------


def plan_words(
    plan: RunPlan, data: str, is_data_on_hub: bool = False, from_adapter: str = "",
    settings: Settings | None = None,
) -> str:  # fmt: skip
    """What will run, in Markdown; `data` is what its pairs are called."""
    method = METHOD_NAMES.get(plan.method, str(plan.method))
    pairs = count(plan.pairs, "pair") if plan.is_read else f"up to {count(plan.pairs, 'pair')}"
    lines = (
        f"**{method}** on **{pairs}** from {as_text(data)}, {held_out_words(plan.held_out, plan.is_read)}.",
        left_out_words(plan.left_out) if plan.is_read else "Which rows are left out is known once they are read.",
        cut_words(plan, settings) if settings else "",
        f"LoRA on **{as_text(plan.base)}**{start_words(plan.method, from_adapter)}: {count(plan.steps, 'step')} of "
        f"{count(plan.batch, 'pair')} each.",
        stage_words(plan, settings) if settings else "",
        f"Each prompt is computed twice: {as_text(plan.twice)}." if plan.twice else "",
        f"{_about(plan)} {download_words(plan.download_bytes, is_data_on_hub)}",
        fit_words(plan),
    )
    return "\n\n".join(line for line in lines if line)


def start_words(method: str, from_adapter: str) -> str:
    if not from_adapter:
        return ""
    return f", from **{as_text(from_adapter)}**" + (" and held to it" if method == Method.DPO else "")


def stage_words(plan: RunPlan, settings: Settings) -> str:
    """The two runs that SFT, then DPO comes to; empty for a single one."""
    if plan.method != Method.SFT_DPO:
        return ""
    # Both go through the same pairs in the same batches.
    steps = plan.steps * settings.sft_epochs // (settings.sft_epochs + settings.epochs)
    return (
        f"1. **SFT**: {count(steps, 'step')}, {count(settings.sft_epochs, 'pass', 'passes')} at "
        f"{_value(TRAINING['sft_learning_rate'], settings.sft_learning_rate)}.\n"
        f"2. **DPO** from the SFT adapter, and held to it: {count(plan.steps - steps, 'step')}, "
        f"{count(settings.epochs, 'pass', 'passes')} at "
        f"{_value(TRAINING['learning_rate'], settings.learning_rate)}, beta {settings.beta:g}."
    )


def held_out_words(held_out: int, is_read: bool = True) -> str:
    if not held_out:
        return "none held out, so no held-out figures"
    return f"{held_out:,} held out to measure on" if is_read else f"up to {held_out:,} held out to measure on"


def left_out_words(left_out: Mapping[str, int]) -> str:
    if not left_out:
        return "No row is left out."
    total = sum(left_out.values())
    reasons = ", ".join(f"{as_text(reason)} ({number:,})" for reason, number in left_out.items())
    return f"{count(total, 'row is', 'rows are')} left out: {reasons}."


def cut_words(plan: RunPlan, settings: Settings) -> str:
    """How many replies lose their end; empty where none do."""
    if not plan.cut_replies:
        return ""
    cut = count(plan.cut_replies, "reply is", "replies are")
    return f"{cut} cut at the max length of {settings.max_length:,} tokens."


def _about(plan: RunPlan) -> str:
    took = (
        "The time is known once it has begun" if plan.duration_s is None else f"About **{duration(plan.duration_s)}**"
    )
    if plan.memory_bytes is None:
        return f"{took}."
    return f"{took}; **{size(plan.memory_bytes)}** of the {size(plan.memory_limit)} of memory there are."


def fit_words(plan: RunPlan) -> str:
    """A warning where memory is short, with the way out where there is one; nothing where it is not."""
    if plan.fit == "tight":
        way_out = "close other large programs first, or lower the batch size or the max length."
        return f"**It is tight:** {as_text(plan.fix_words) or way_out}"
    if plan.fit == WONT_FIT:
        way_out = (
            "Choose a smaller base, or under Advanced a smaller batch size or max length, or gradient checkpointing."
        )
        return f"**It won't fit here.** {as_text(plan.fix_words) or way_out}"
    return ""


def download_words(num_bytes: int, is_data_on_hub: bool) -> str:
    base = f"**{size(num_bytes)}** will be downloaded first." if num_bytes else ""
    data = "The data is fetched from the Hub when it starts, unless it was before." if is_data_on_hub else ""
    return f"{base} {data}".strip() or "Nothing is downloaded."


def memory_picture(plan: RunPlan) -> str:
    """The peak by its parts as a bar against what the machine has; made of numbers, and names through `as_text`."""
    if not plan.parts:
        return ""
    needed = sum(plan.parts.values())
    scale = max(needed, plan.memory_limit)
    bar = "".join(f'<i style="width:{part / scale:.2%}"></i>' for part in plan.parts.values())
    parts = "".join(f"<li><i></i>{as_text(name)} {size(part)}</li>" for name, part in plan.parts.items())
    if needed > plan.memory_limit:
        bar += f'<b style="left:{plan.memory_limit / scale:.2%}"></b>'
        parts += f"<li><b></b>{size(plan.memory_limit)} there are</li>"
    said = f"Memory at most: {size(needed)} of {size(plan.memory_limit)}"
    return f'<div class="memory"><div role="img" aria-label="{said}">{bar}</div><ul>{parts}</ul></div>'
