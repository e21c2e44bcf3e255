"""A run in words, rows and numbers: how it goes, what came of it.

Pure: no gradio, no disk, no clock. Markdown in, Markdown out; whatever was typed or read goes through
`as_text`.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from core.model_card import reward_words
from core.runs import RESUMABLE, Phase, Run, RunStatus
from core.settings import Method
from core.stats import p_words, wilson
from core.ui.plan_views import METHOD_NAMES
from core.ui.views import as_text, count, duration, progress_words, size

SMALL_P = 0.05
# Of fewer pairs not even all of them would be enough for McNemar's test.
FEWEST_TO_SHOW = 6
DAMAGED_FIGURES = "**Its figures cannot be read:** status.json is not as it was written. The adapter is another file."


# --- during -------------------------------------------------------------------------------------------


def run_title(run: Run) -> str:
    method = METHOD_NAMES.get(run.method, run.method)
    return f"### {as_text(run.name)}\n{as_text(method)} on {as_text(data_name(run.dataset))} · base {as_text(run.base)}"


def data_name(dataset: str) -> str:
    """The data as people call it: a file by its name, wherever it lies."""
    path = PurePath(dataset)
    return path.name if path.is_absolute() else dataset


def run_line(run: Run, row: Mapping[str, Any] | None = None) -> str:
    """Status, phase, progress, time left, and how fast the step of `row` went, in Markdown."""
    words = [f"**{run.status.value.capitalize()}**"]
    if run.is_alive:
        words.append(as_text(progress_words(run)))
        if run.phase == Phase.TRAINING and run.status is RunStatus.PAUSED:
            words.append("go on whenever you like")
        elif run.eta_s is not None:
            words.append(f"about {duration(run.eta_s)} left")
        words += pace_words(row or {}) if run.status is RunStatus.RUNNING and run.phase == Phase.TRAINING else []
    elif run.steps:
        words.append(f"{run.step} of {run.steps} steps")
    return " · ".join([*words, *stage_words(run)])


def pace_words(row: Mapping[str, Any]) -> list[str]:
    """How fast a step went, and what memory it took; only what its row says."""
    told = (
        ("pairs_per_s", lambda value: f"{value:.{1 if value >= 1 else 2}f} pairs/s"),
        ("tokens_per_s", lambda value: f"{value:,.0f} tokens/s"),
        ("memory_bytes", lambda value: f"{size(value)} of memory"),
    )
    return [words(row[name]) for name, words in told if row.get(name)]


def stage_words(run: Run) -> list[str]:
    """Of SFT, then DPO: which of the two runs it is."""
    if follows := run.facts.get("follows"):
        return [f"second of two: follows {as_text(str(follows))}"]
    return ["first of two: DPO follows"] if run.facts.get("then") else []


def run_share(run: Run) -> float | None:
    """How far the present phase is, 0 to 1; None where it cannot be known."""
    if run.status is RunStatus.FINISHED:
        return 1.0
    if (not run.is_alive or run.phase == Phase.TRAINING) and run.steps:
        return min(1.0, run.step / run.steps)
    return min(1.0, run.phase_done / run.phase_total) if run.phase_total else None


def bar(share: float | None) -> str:
    """A progress element, made of numbers alone."""
    if share is None:
        return '<progress aria-label="Progress of this phase"></progress>'
    return f'<progress aria-label="Progress of this phase" max="1000" value="{round(share * 1000)}"></progress>'


def phases_of(run: Run) -> list[str]:
    """The phases that a run of this kind goes through, in order."""
    skipped = set() if run.method == Method.DPO else {Phase.REFERENCE}
    if run.dataset != "starter":
        skipped.add(Phase.TRAIT)
    if run.facts.get("pinned") == 0:
        skipped.add(Phase.PINNED)
    return [phase.value for phase in Phase if phase not in skipped or phase == run.phase]


def phase_chips(run: Run) -> str:
    """The run's phases as a list, those done and the present one marked; made of our own words alone."""
    phases = phases_of(run)
    now = phases.index(run.phase) if run.phase in phases else 0
    done = len(phases) if run.status is RunStatus.FINISHED else now

    def chip(number: int, phase: str) -> str:
        if run.is_alive and number == now:
            return f'<li aria-current="step">{phase}</li>'
        return f"<li data-done>{phase}</li>" if number < done else f"<li>{phase}</li>"

    return f'<ol class="phases">{"".join(chip(*numbered) for numbered in enumerate(phases))}</ol>'


# --- after --------------------------------------------------------------------------------------------


def outcome_words(run: Run) -> str:
    """What came of the run, in Markdown; empty while it goes on."""
    if run.is_alive:
        return "The result appears here when the run is done."
    told = (trait_words, accuracy_words, reward_words, gain_words, cost_words) if run.result else ()
    try:
        lines = [ending_words(run), *(words(run.result) for words in told)]
    except (KeyError, TypeError, ValueError, AttributeError):
        # The file may have been written by anything.
        return DAMAGED_FIGURES
    return "\n\n".join(line for line in lines if line)


def ending_words(run: Run) -> str:
    if run.status is RunStatus.FINISHED:
        return f"**{verdict_words(run.result)}**"
    if run.status is RunStatus.STOPPED:
        return f"**Stopped at step {run.step} of {run.steps}, and kept.** The adapter can be used as it is."
    what = "It was interrupted." if run.status is RunStatus.INTERRUPTED else "It failed."
    return f"**{what}** {as_text(run.reason)}"


def verdict_words(result: Mapping[str, Any]) -> str:
    """The headline: whether what was held out shows that anything was learned."""
    figures: list[Any] = [result.get(k) for k in ("mcnemar_p", "preference_accuracy_base", "preference_accuracy_tuned")]
    p, base, tuned = figures
    is_known = p is not None and base is not None and tuned is not None
    if is_known and p < SMALL_P and tuned < base:
        return "It got worse on held-out pairs."
    if shows_trait(result.get("trait") or {}):
        return "It learned: on prompts that it never saw, its responses now show the trait."
    gain = result.get("chosen_gain")
    if not is_known and gain and gain["p"] < SMALL_P:
        moved = "likelier" if gain["mean"] > 0 else "less likely"
        return f"Done. The replies of held-out rows became {moved}."
    if not is_known:
        return "Done. Nothing was held out, so compare the responses yourself."
    if result["held_out"] < FEWEST_TO_SHOW:
        return f"Done. {count(result['held_out'], 'held-out pair')} can show no difference to base: hold out more."
    if p >= SMALL_P:
        return "Done. On held-out pairs no difference to base is shown."
    return "It learned: it now tells more held-out pairs apart."


def shows_trait(trait: Mapping[str, Any]) -> bool:
    return trait.get("p") is not None and trait["p"] < SMALL_P and trait["tuned"] > trait["base"]


def accuracy_words(result: Mapping[str, Any]) -> str:
    n = result.get("held_out") or 0
    if not n or result.get("preference_accuracy_tuned") is None:
        return ""
    tuned, base = (_share(result[k], n) for k in ("tuned_k", "base_k"))
    return (
        f"Held-out accuracy **{tuned}**, base {base}, on {count(n, 'pair')}: how often the chosen reply is the "
        f"likelier one. McNemar's exact test: {p_words(result['mcnemar_p'])}.{per_token_words(result, n)}"
    )


def per_token_words(result: Mapping[str, Any], n: int) -> str:
    """The same by the token, so that a reply is not the likelier one for being short."""
    figures = result.get("per_token")
    if not figures:
        return ""
    tuned, base = (_share(figures[k], n) for k in ("tuned_k", "base_k"))
    return f" By the token: {tuned}, base {base}, {p_words(figures['mcnemar_p'])}."


def gain_words(result: Mapping[str, Any]) -> str:
    """How much likelier the replies of data without rejected ones became."""
    gain = result.get("chosen_gain")
    if not gain:
        return ""
    return (
        f"Held-out replies: log-probability {gain['mean']:+.1f} nats ({gain['low']:+.1f} to {gain['high']:+.1f}) on "
        f"{count(result['held_out'], 'row')}; likelier on {gain['positive']}, {p_words(gain['p'])}. Data without "
        "rejected replies shows no preference: compare the responses."
    )


def _share(k: int, n: int) -> str:
    low, high = wilson(k, n)
    return f"{k / n:.2f} ({low:.2f} to {high:.2f})"


def trait_words(result: Mapping[str, Any]) -> str:
    trait = result.get("trait")
    if not trait:
        return ""
    if trait.get("skipped"):
        return "The trait count was skipped."
    n = trait["n"]
    return (
        f"Ends with exactly one next step: base **{trait['base']} of {n}**, tuned **{trait['tuned']} of {n}**, "
        f"exact {p_words(trait['p'])}."
    )


def cost_words(result: Mapping[str, Any]) -> str:
    took, peak = result.get("train_s"), result.get("peak_memory_bytes")
    words = [f"Trained in {duration(took)}" if took else "", f"at most {size(peak)} of memory" if peak else ""]
    return ", ".join(word for word in words if word) + "." if any(words) else ""


def is_resumable(run: Run | None) -> bool:
    return run is not None and run.status in RESUMABLE
