"""Compare's words and pictures: ids that stay, reasons that a person can read, and no text of others as a tag."""

import re
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from core.agreement import agreement
from core.blind import HumanVerdict
from core.compare import Comparison, Counts
from core.errors import RequestError
from core.export import Row
from core.messages import Message, Role
from core.prompts import Prompt
from core.report import AGREED
from core.results import Results
from core.settings import Decoding
from core.standing import Decider, Plan
from core.stats import Outcome, Tally
from core.ui import compare_plots as plots
from core.ui import compare_views as views
from core.ui.compare_scene import Scene
from core.ui.compare_views import Mode
from core.ui.compare_worker import Progress
from tests.ui.fake_talker import FakeTalker, make_adapter

WIN, TIE, LOSS, FLIP, NONE = Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.FLIP, Outcome.NO_VERDICT
KNOWN = [Prompt("quantum-1", "quantum computing", "What is a qubit?"), Prompt("own-1", "own", "What is tea?")]
ROW = Row(
    prompt_id="quantum-1", category="quantum computing", prompt="What is a qubit?", base_response="A bit.",
    tuned_response="A blend.", tuned_side="B", human_verdict="B", human_outcome="win", judge_order_1="tuned",
    judge_order_2="base", judge_outcome="flip", judge_reason="base is short.", base_model="smollm2",
    adapter="dpo-1122-1405", judge_model="gemini-3.8-flash", base_tokens=2, tuned_tokens=None, seed=42,
    created_at="2026-11-22T14:05:00+01:00",
)  # fmt: skip
PLAN = Plan(
    "dpo-1", "", "smollm2", "", (), Decoding(), 42, 1, 0, Decider.HUMAN, False, 0, (), "2026-11-22T14:05:00+01:00", "",
)  # fmt: skip
SCENE = Scene(PLAN, Counts(2, 0, 0, 5))
HOSTILE = "<img src=x onerror=alert(1)> ![x](http://evil/a.png)"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A person's result on twelve prompts of two categories, one of them hostile, and three placebos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_HOME", str(tmp_path_factory.mktemp("home")))
        prompts = [Prompt(f"{HOSTILE}-{n}", HOSTILE if n > 10 else "tea", f"What is {n}?") for n in range(12)]
        comparison = Comparison.create(make_adapter(), "smollm2", prompts, Decoding(), num_placebos=3)
        comparison.run(FakeTalker().answer)
        for item_id in comparison.pending():
            card = comparison.card(item_id)
            verdict = HumanVerdict.A if "Next step" in card.response_a else HumanVerdict.B
            comparison.vote(item_id, verdict)
        found = comparison.results()
    assert found is not None
    return found


class TestBefore:
    def test_a_prompt_that_was_not_touched_keeps_its_id_and_a_new_one_gets_a_free_one(self):
        table = [["own", "What is tea?"], ["", " What is rain? "], ["quantum computing", "What is a qubit, really?"]]
        assert views.prompts_of(table, KNOWN) == [
            Prompt("own-1", "own", "What is tea?"),
            Prompt("own-2", "own", "What is rain?"),
            Prompt("own-3", "quantum computing", "What is a qubit, really?"),
        ]

    def test_a_prompt_keeps_the_turns_before_it_unless_its_words_are_changed(self):
        turns = (Message(Role.USER, "Tea?"), Message(Role.ASSISTANT, "Yes."), Message(Role.USER, "How?"))
        known = [Prompt("h-1", "held out", "Human: Tea? ...\n", turns)]
        kept, changed = views.prompts_of([["mine", "Human: Tea? ..."], ["mine", "Human: Rain?"]], known)
        assert (kept.id, kept.category, kept.conversation) == ("h-1", "mine", turns)
        assert (changed.id, changed.messages) == ("own-1", ())

    def test_the_same_question_twice_is_two_prompts(self):
        assert len({prompt.id for prompt in views.prompts_of([["a", "Why?"], ["b", "Why?"]], KNOWN)}) == 2

    @pytest.mark.parametrize("table", [[], [["a", ""]], [["a", None]], [[None, float("nan")]]])
    def test_an_empty_table_is_said_and_not_started(self, table):
        with pytest.raises(RequestError, match=r"^There is no prompt to compare on\. Give at least one\.$"):
            views.prompts_of(table, KNOWN)

    def test_what_start_does_is_said_with_who_decides(self):
        said = views.plan_words("dpo-1", Mode.HUMAN, "25 prompts.", (), "")
        assert said == (
            "Base and **dpo-1** answer the same prompts, then you vote without knowing who is who. "
            "**Your votes decide.**\n\n25 prompts."
        )
        assert "**Its verdicts decide.**" in views.plan_words("dpo-1", Mode.ALONE, "", (), "")
        assert views.plan_words(None, Mode.HUMAN, "25 prompts.", (), "") == views.NO_ADAPTER

    def test_prompts_seen_in_training_are_said_as_text(self):
        said = views.plan_words("dpo-1", Mode.HUMAN, "", [HOSTILE], "")
        assert "**Seen before:** 1 prompt" in said
        assert "<img" not in said

    def test_a_run_that_measured_nothing_says_nothing(self):
        assert views.measured_words({}) == ""
        assert views.measured_words({"held_out": 0, "margin": {"n": 0, "mean": None}}) == ""


class TestWhileItGoesOn:
    def test_progress_says_how_long_it_takes(self):
        going = replace(SCENE, progress=Progress("answering", 8, 25, 0.32, 130.0))
        assert views.standing_sentence(going) == "Answered: 8 of 25 pairs. About 2 min left."
        judging = replace(going, progress=Progress("judging", 1, 25, 0.04))
        assert views.standing_sentence(judging) == "Judged by Gemini: 1 of 25 pairs."
        assert views.standing_sentence(replace(going, progress=Progress("measuring", 1, 25))) == (
            "Distance from base measured: 1 of 25 pairs."
        )

    def test_what_stopped_it_is_said_as_text_with_the_way_on(self):
        said = views.standing_sentence(replace(SCENE, can_go_on=True, failure=f"The engine ended: {HOSTILE}."))
        assert said.startswith("**It stopped:** The engine ended: &#60;img")
        assert said.endswith(
            "**Not finished:** 2 of 5 pairs answered. Go on picks it up there: what is answered and judged stays, and "
            "only what was under way is asked again."
        )
        assert "<img" not in said
        assert "](" not in said

    def test_a_judge_that_gave_up_is_named_once(self):
        stopped = replace(SCENE, failure="No key.", judge_stopped="No key.")
        assert views.standing_sentence(stopped).count("No key") == 1

    def test_a_comparison_has_a_title_that_tells_it_from_others(self):
        began = datetime.fromisoformat(PLAN.created_at).strftime("%d %b %H:%M")
        assert views.title(SCENE) == f"### dpo-1 against base\nsmollm2 · 5 pairs · begun {began}"

    def test_a_bar_stays_within_its_box(self):
        assert "width:100%" in views.bar(1.7)
        assert "width:0%" in views.bar(-1)


class TestResults:
    def test_the_table_says_who_was_better_and_not_which_letter(self):
        results = SimpleNamespace(rows=[ROW], cut={("quantum-1", "base")})
        assert views.table(results) == [
            ["quantum-1", "quantum computing", "tuned is better", "its two orders disagree", "B", "2 cut / –"]
        ]

    @pytest.mark.parametrize(("orders", "words"), [
        (("no_verdict:rate_limited",) * 2, "no verdict (held back by the rate limit too long)"),
        (("tuned", "no_verdict:blocked"), "no verdict (blocked by Gemini)"),
        (("no_verdict:not_judged",) * 2, "no verdict (not judged)"),
    ])  # fmt: skip
    def test_a_missing_verdict_says_why(self, orders, words):
        row = replace(ROW, judge_outcome="no_verdict", judge_order_1=orders[0], judge_order_2=orders[1])
        assert views.judge_words(row) == words

    def test_a_pair_is_labelled_with_who_sat_where_and_how_long_it_is(self):
        cut = {("quantum-1", "base")}
        assert views.pair_label("base", ROW, cut) == "base · sat on A · 2 tokens, cut by the length limit"
        assert views.pair_label("tuned", ROW, cut) == "tuned · sat on B · – tokens"
        assert views.pair_notes(ROW) == (
            "You: tuned is better.\n"
            "Gemini: its two orders disagree (base shown first: tuned; tuned shown first: base).\nbase is short."
        )

    def test_a_word_diff_holds_every_word_of_both_in_their_order(self):
        diff = views.word_diff("It is  warm\nand wet.", "It is cold\nand wet, too.")
        assert diff == [
            ("It is ", None), ("warm\n", "−"), ("cold\n", "+"), ("and ", None), ("wet.", "−"), ("wet, too.", "+"),
        ]  # fmt: skip
        assert views.word_diff("", "") == []
        assert views.word_diff("same words", "same words") == [("same words", None)]


class TestPictures:
    def test_every_outcome_is_in_the_bar_by_number_and_name_and_none_by_colour_alone(self):
        bar = plots.outcome_bar(Tally.of([WIN, WIN, TIE, FLIP, LOSS, NONE]), "Gemini")
        for said in ("2 won", "1 tied", "1 flipped", "1 lost", "1 no verdict"):
            assert said in bar

    def test_each_rate_stands_with_its_interval_and_n_and_few_are_greyed(self, results: Results):
        plot = plots.interval_plot(results)
        main, cold = (re.search(rf'<div class="row [^"]*"><span>{name}.*?</div>', plot)[0] for name in ("All", "&#60;"))
        assert "1.00 <small>(0.76 to 1.00), n 12" in main
        assert 'class="row main"' in main
        assert 'class="row category few"' in cold
        assert "n 1<" in cold

    def test_the_placebos_are_a_row_of_their_own_beside_how_often_one_was_preferred(self, results: Results):
        *_, real, noise = plots.noise_rows(results.human)
        assert (real[0], real[2]) == ("One preferred, base and tuned", 12)
        assert (noise[0], noise[2], noise[3]) == ("One preferred, base and base: noise", 3, "share noise")

    def test_a_pair_is_a_mark_by_its_lengths_whose_shape_says_its_outcome(self, results: Results):
        scatter = plots.length_scatter(results)
        assert scatter.count('<g class="win" transform=') == 12
        assert "base 5, tuned 9 tokens: won" in scatter
        assert "Tuned is the shorter one in 0 of 12 pairs" in scatter
        assert len(set(plots.SHAPES.values())) == len(Outcome)

    def test_a_result_without_responses_has_no_scatter_and_one_without_verdicts_no_rate(self, results: Results):
        assert plots.length_scatter(replace(results, rows=())) == ""
        empty = replace(results.human, tally=Tally.of([NONE]), categories=())
        assert "no verdict" in plots.interval_plot(replace(results, human=empty))

    def test_person_and_judge_stand_in_one_table(self):
        found = agreement([(WIN, WIN)] * 7 + [(LOSS, TIE)])
        block = plots.blocks([(AGREED, ["On 8 pairs"]), ("Other", ["x"])], found)
        assert block.count("<table") == 1
        assert "<td class=same>7</td>" in block

    def test_no_text_of_others_becomes_a_tag(self, results: Results):
        pictures = [
            plots.interval_plot(results), plots.length_scatter(results), plots.outcome_bars(results),
            plots.blocks([(HOSTILE, [HOSTILE])], None), plots.called_nothing([HOSTILE]),
        ]  # fmt: skip
        for html in pictures:
            assert html
            assert "<img" not in html
