"""The page's words: right numbers, with their doubt, and nothing of them alive as Markdown or HTML."""

import re
from dataclasses import replace

import pytest

from core.client import EnginePhase, EngineState
from core.runs import Run, RunStatus
from core.ui import run_views, theme, views
from tests.ui.fake_client import MISTRAL, READY, STARTER

RESULT = {
    "preference_accuracy_base": 0.55, "preference_accuracy_tuned": 0.85, "held_out": 40, "base_k": 22, "tuned_k": 34,
    "base_only": 2, "tuned_only": 14, "mcnemar_p": 0.0042, "train_s": 233.0, "peak_memory_bytes": 2_100_000_000,
    "trait": {"n": 40, "base": 3, "tuned": 29, "base_only": 0, "tuned_only": 26, "p": 3e-8, "skipped": False},
}  # fmt: skip
TRAINING = Run(name="dpo-1122-1405", method="dpo", status=RunStatus.RUNNING, phase="training", step=34, steps=60,
               eta_s=120.0, base="smollm2", dataset="starter")  # fmt: skip
DONE = replace(TRAINING, status=RunStatus.FINISHED, phase="saving", step=60, eta_s=None, result=RESULT)
HOSTILE = "<img src=x onerror=alert(1)> ![x](http://evil/a.png) **b** `c` [d](javascript:e) $f$ &amp; \\g _h_"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (41, "41 s"), (150, "2 min"), (5400, "1 h 30 min"), (-3, "0 s")]
)
def test_times_are_rough_and_never_negative(seconds, words):
    assert views.duration(seconds) == words


def test_text_from_elsewhere_stays_text():
    shown = views.as_text(HOSTILE)
    assert not re.search(r"[<>*_`\[\]!$\\|~\"']", shown)
    assert "&#60;img src=x onerror=alert(1)&#62;" in shown
    assert "\n" not in views.as_text("one\n\n# two")


@pytest.mark.parametrize("words", [
    lambda text: views.engine_line(replace(READY, base=text, reason=text)),
    lambda text: views.engine_line(EngineState(phase=EnginePhase.FAILED, message=text, reason=text)),
    lambda text: run_views.run_title(replace(TRAINING, dataset=text, base=text)),
    lambda text: run_views.run_line(replace(TRAINING, phase=text)),
    lambda text: run_views.outcome_words(replace(TRAINING, status=RunStatus.FAILED, reason=text)),
    lambda text: run_views.phase_chips(replace(TRAINING, name=text, dataset=text)),
])  # fmt: skip
def test_no_name_reason_or_data_becomes_markup(words):
    assert "<img" not in words(HOSTILE)
    assert "![x]" not in words(HOSTILE)
    assert "](" not in words(HOSTILE)


def test_the_header_says_which_model_on_what_and_why():
    assert views.engine_line(READY) == (
        "● **smollm2-135m-instruct** on cpu · float32 · 540 MB in memory · this processor has no fast half precision"
    )


def test_the_header_says_how_far_a_loading_model_is():
    state = EngineState(phase=EnginePhase.FETCHING, message="Bringing the starter model", progress=0.34)
    assert views.engine_line(state) == "◌ Bringing the starter model · 34%"


def test_the_picker_says_whether_each_base_fits():
    choices, chosen = views.base_choices([STARTER, MISTRAL], READY)
    assert chosen == STARTER.name
    assert [label for label, _ in choices] == [
        "SmolLM2-135M-Instruct · 538 MB · fits", "Mistral-7B-Instruct-v0.3 · 14.5 GB · won't fit",
    ]  # fmt: skip


def test_the_picker_shows_a_resident_base_that_is_not_listed():
    choices, chosen = views.base_choices([STARTER], replace(READY, base="/models/mine"))
    assert (chosen, choices[-1]) == ("/models/mine", ("/models/mine", "/models/mine"))


@pytest.mark.parametrize(("run", "chip"), [
    (None, ("No training yet", False)),
    (TRAINING, ("● dpo-1122-1405 · step 34 of 60 · 2 min left", True)),
    (replace(TRAINING, phase="reference pass", phase_done=40, phase_total=120, eta_s=None),
     ("● dpo-1122-1405 · reference pass 40 of 120", True)),
    (DONE, ("✓ dpo-1122-1405 · finished", True)),
    (replace(TRAINING, status=RunStatus.INTERRUPTED, eta_s=None), ("✕ dpo-1122-1405 · interrupted", True)),
])  # fmt: skip
def test_the_chip_says_how_the_run_stands(run, chip):
    assert views.run_chip(run) == chip


def test_a_finished_run_says_what_was_learned_with_its_doubt():
    assert run_views.outcome_words(DONE) == (
        "**It learned: on prompts that it never saw, its responses now show the trait.**\n\n"
        "Ends with exactly one next step: base **3 of 40**, tuned **29 of 40**, exact p < 0.001.\n\n"
        "Held-out accuracy **0.85 (0.71 to 0.93)**, base 0.55 (0.40 to 0.69), on 40 pairs: how often the chosen reply "
        "is the likelier one. McNemar's exact test: p = 0.004.\n\n"
        "Trained in 4 min, at most 2.1 GB of memory."
    )


def test_held_out_figures_come_by_the_token_and_by_the_reward_too():
    per_token = {"base_k": 0, "tuned_k": 12, "mcnemar_p": 0.0004}
    more = {"per_token": per_token, "held_out_reward_accuracy": 0.95, "held_out_reward_margin": 8.17}
    words = run_views.outcome_words(replace(DONE, result=RESULT | more))
    assert "By the token: 0.30 (0.18 to 0.45), base 0.00 (0.00 to 0.09), p < 0.001." in words
    assert "It moved towards the chosen reply on 38 of 40 held-out pairs (mean reward margin 8.17)." in words


@pytest.mark.parametrize(("change", "headline"), [
    ({"mcnemar_p": 0.2}, "Done. On held-out pairs no difference to base is shown."),
    ({"preference_accuracy_tuned": 0.3}, "It got worse on held-out pairs."),
    ({"trait": RESULT["trait"], "preference_accuracy_tuned": 0.3}, "It got worse on held-out pairs."),
    ({"mcnemar_p": 0.004}, "It learned: it now tells more held-out pairs apart."),
    ({"preference_accuracy_base": None, "preference_accuracy_tuned": None, "mcnemar_p": None, "held_out": 0},
     "Done. Nothing was held out, so compare the responses yourself."),
])  # fmt: skip
def test_the_headline_claims_no_more_than_is_shown(change, headline):
    result = RESULT | {"trait": None} | change
    assert run_views.outcome_words(replace(DONE, result=result)).startswith(f"**{headline}**")


def test_a_skipped_trait_count_is_said_and_an_absent_one_is_not():
    skipped = replace(DONE, result=RESULT | {"trait": {"skipped": True}})
    assert "The trait count was skipped." in run_views.outcome_words(skipped)
    assert "next step" not in run_views.outcome_words(replace(DONE, result=RESULT | {"trait": None}))


@pytest.mark.parametrize(("status", "words"), [
    (RunStatus.STOPPED, "**Stopped at step 34 of 60, and kept.** The adapter can be used as it is."),
    (RunStatus.INTERRUPTED, "**It was interrupted.** The lights went out."),
    (RunStatus.FAILED, "**It failed.** The lights went out."),
])  # fmt: skip
def test_a_run_that_ended_early_says_why(status, words):
    assert run_views.outcome_words(replace(TRAINING, status=status, reason="The lights went out.")) == words


def test_the_bar_is_made_of_numbers_alone():
    assert run_views.bar(run_views.run_share(TRAINING)).endswith('max="1000" value="567"></progress>')
    assert "value" not in run_views.bar(None)


def test_only_the_phases_of_this_kind_of_run_are_listed():
    assert "reference pass" in run_views.phases_of(TRAINING)
    assert "reference pass" not in run_views.phases_of(replace(TRAINING, method="sft"))
    assert "counting the trait" not in run_views.phases_of(replace(TRAINING, dataset="Anthropic/hh-rlhf"))
    assert "answering the pinned prompts" in run_views.phases_of(TRAINING)
    assert "answering the pinned prompts" not in run_views.phases_of(replace(TRAINING, facts={"pinned": 0}))
    assert run_views.phase_chips(TRAINING).count('aria-current="step"') == 1


def test_a_phase_that_counts_no_pairs_is_told_in_percent():
    answering = replace(TRAINING, phase="answering the pinned prompts", phase_done=24, phase_total=96)
    assert views.progress_words(answering) == "answering the pinned prompts, 25%"
    assert views.progress_words(replace(answering, phase="reference pass")) == "reference pass 24 of 96"


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two hex colours, 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("text", "ground", "least"), [
    (theme.TEXT, theme.PAGE, 4.5), (theme.TEXT, theme.CARD, 4.5), (theme.MUTED, theme.PAGE, 4.5),
    (theme.MUTED, theme.CARD, 4.5), (theme.ON_ACCENT, theme.ACCENT, 4.5), (theme.ACCENT, theme.PAGE, 4.5),
    (theme.STOP, theme.CARD, 4.5), (theme.EDGE, theme.FIELD, 3.0),
])  # fmt: skip
def test_contrast_passes_wcag_aa_in_light_and_in_dark(text, ground, least):
    assert all(contrast(one, other) >= least for one, other in zip(text, ground, strict=True))


@pytest.mark.parametrize(
    "result",
    [{"trait": {"n": 40}}, {"held_out": "x", "preference_accuracy_tuned": 1}, {"chosen_gain": 7}, {"train_s": [1]}],
)
def test_damaged_figures_cost_the_result_and_not_the_page(result):
    assert run_views.outcome_words(replace(DONE, result=result)) == run_views.DAMAGED_FIGURES


def test_data_without_rejected_replies_says_how_much_likelier_they_became():
    gain = {"mean": 12.3, "low": 8.0, "high": 16.5, "positive": 10, "negative": 0, "p": 0.002}
    words = run_views.outcome_words(replace(DONE, result={"held_out": 10, "chosen_gain": gain}))
    assert words.startswith("**Done. The replies of held-out rows became likelier.**")
    assert "log-probability +12.3 nats (+8.0 to +16.5) on 10 rows; likelier on 10, p = 0.002." in words
