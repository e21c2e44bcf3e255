"""Compare's words: numbers with their doubt, ids that stay, and reasons that a person can read."""

from dataclasses import replace

import pytest

from core.errors import RequestError
from core.export import Row
from core.prompts import Prompt
from core.stats import Outcome, Tally
from core.ui import compare_views as views
from core.ui.compare_scene import Scene
from core.ui.compare_worker import Progress

WIN, TIE, LOSS, FLIP, NONE = Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.FLIP, Outcome.NO_VERDICT
KNOWN = [Prompt("quantum-1", "quantum computing", "What is a qubit?"), Prompt("own-1", "own", "What is tea?")]
ROW = Row(
    prompt_id="quantum-1", category="quantum computing", prompt="What is a qubit?", base_response="A bit.",
    tuned_response="A blend.", tuned_side="B", human_verdict="B", human_outcome="win", judge_order_1="tuned",
    judge_order_2="base", judge_outcome="flip", judge_reason="base is short.", base_model="smollm2",
    adapter="dpo-1122-1405", judge_model="gemini-3.8-flash", base_tokens=2, tuned_tokens=None, seed=42,
    created_at="2026-11-22T14:05:00+01:00",
)  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)> ![x](http://evil/a.png)"


def test_a_prompt_that_was_not_touched_keeps_its_id_and_a_new_one_gets_a_free_one():
    table = [["own", "What is tea?"], ["", " What is rain? "], ["quantum computing", "What is a qubit, really?"]]
    assert views.prompts_of(table, KNOWN) == [
        Prompt("own-1", "own", "What is tea?"),
        Prompt("own-2", "own", "What is rain?"),
        Prompt("own-3", "quantum computing", "What is a qubit, really?"),
    ]


def test_the_same_question_twice_is_two_prompts():
    assert len({prompt.id for prompt in views.prompts_of([["a", "Why?"], ["b", "Why?"]], KNOWN)}) == 2


@pytest.mark.parametrize("table", [[], [["a", ""]], [["a", None]], [[None, float("nan")]]])
def test_an_empty_table_is_said_and_not_started(table):
    with pytest.raises(RequestError, match=r"^There is no prompt to compare on\. Give at least one\.$"):
        views.prompts_of(table, KNOWN)


def test_what_start_does_is_said_before():
    assert views.plan_sentence(5, "dpo-1", False) == (
        "Base and **dpo-1** answer 5 prompts, then you vote without knowing who is who."
    )
    assert "Gemini alone decides" in views.plan_sentence(1, "dpo-1", True)
    assert views.plan_sentence(5, None, False) == views.NO_ADAPTER


@pytest.mark.parametrize(("outcomes", "words"), [
    ([WIN] * 5, "Leaning better, too few to be sure"),
    ([WIN] * 6, "Better"),
    ([LOSS] * 6 + [TIE] * 20, "Worse"),
    ([LOSS] * 2 + [WIN], "Leaning worse, too few to be sure"),
    ([WIN, LOSS, TIE, FLIP], "No difference shown"),
    ([], "No difference shown"),
])  # fmt: skip
def test_the_sign_test_on_the_decided_alone_makes_the_headline(outcomes, words):
    assert views.headline(Tally.of(outcomes)) == words


def test_a_result_names_its_n_its_interval_and_what_is_outside_of_it():
    tally = Tally.of([WIN, WIN, WIN, WIN, WIN, NONE])
    assert views.result_sentence(tally, "You") == (
        "**You: leaning better, too few to be sure.** 5 wins, 0 ties, 0 losses for tuned; "
        "win rate 1.00 (0.57 to 1.00) on 5 prompts. 1 prompt without a verdict."
    )


def test_without_a_verdict_there_is_no_rate():
    assert views.result_sentence(Tally.of([NONE, NONE]), "Gemini") == (
        "**Gemini: no verdict.** 2 prompts without a verdict."
    )
    assert "interval" not in views.outcome_bar(Tally.of([NONE]), "You")


def test_every_outcome_is_in_the_bar_by_number_and_name_and_none_by_colour_alone():
    bar = views.outcome_bar(Tally.of([WIN, WIN, TIE, FLIP, LOSS, NONE]), "Gemini")
    for said in ("2 won", "1 tied", "1 flipped", "1 lost", "1 no verdict", "0 base always", "1 tuned always"):
        assert said in bar


def test_the_table_says_who_was_better_and_not_which_letter():
    assert views.table([ROW]) == [
        ["quantum-1", "quantum computing", "tuned is better", "its two orders disagree", "B", "2 / –"]
    ]


@pytest.mark.parametrize(("orders", "words"), [
    (("no_verdict:rate_limited", "no_verdict:rate_limited"), "no verdict (rate limited)"),
    (("tuned", "no_verdict:blocked"), "no verdict (blocked)"),
    (("no_verdict:not_judged", "no_verdict:not_judged"), "no verdict (not judged)"),
])  # fmt: skip
def test_a_missing_verdict_says_why(orders, words):
    row = replace(ROW, judge_outcome="no_verdict", judge_order_1=orders[0], judge_order_2=orders[1])
    assert views.judge_words(row) == words


def test_a_pair_is_labelled_with_who_sat_where():
    assert (views.pair_label("base", ROW), views.pair_label("tuned", ROW)) == ("base · sat on A", "tuned · sat on B")
    assert views.pair_notes(ROW) == "You: tuned is better.\nGemini: its two orders disagree.\nbase is short."


def test_progress_says_how_long_it_takes():
    going = Scene(is_running=True, progress=Progress("answering", 8, 25, 0.32, 130.0), num_prompts=25)
    assert views.standing_sentence(going) == "Answered: 8 of 25 prompts. About 2 min left."
    judging = replace(going, progress=Progress("judging", 1, 25, 0.04))
    assert views.standing_sentence(judging) == "Judged by Gemini: 1 of 25 prompts."


def test_what_stopped_it_is_said_as_text_with_the_way_on():
    stopped = Scene(num_answered=2, num_prompts=5, can_go_on=True, failure=f"The engine ended: {HOSTILE}.")
    said = views.standing_sentence(stopped)
    assert said.startswith("**It stopped:** The engine ended: &#60;img")
    assert said.endswith("**Not finished:** 2 of 5 prompts answered. Go on picks it up there and asks nothing twice.")
    assert "<img" not in said
    assert "](" not in said


def test_a_judge_that_gave_up_is_named_once():
    stopped = Scene(failure="No key.", judge_stopped="No key.", num_prompts=5)
    assert views.standing_sentence(stopped).count("No key") == 1


def test_a_bar_stays_within_its_box():
    assert "width:100%" in views.bar(1.7)
    assert "width:0%" in views.bar(-1)
