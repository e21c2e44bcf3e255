"""What responses show without a judge, in sentences; and when it may be said that a fine-tune did nothing."""

import random
from dataclasses import replace

import pytest

from core.diagnostics import Counts, Pair, diagnose, is_loop, is_refusal, word_distance
from core.normalise import HIDDEN, STOP, TURN, Answer

WORDS = [f"word{i}" for i in range(400)]
STORY = " ".join(WORDS[:40])


def answer(text: str = STORY, **changes) -> Answer:
    return replace(Answer(text, text, len(text.split()), False, "", ()), **changes)


SAME = (answer(), answer())


def drawn(draw: random.Random, num_words: int = 60, pool: int = 400) -> str:
    return " ".join(draw.choice(WORDS[:pool]) for _ in range(num_words))


def draws(count: int, seed: int, pool: int = 400) -> list[Pair]:
    """Pairs of two draws of the same source, as a placebo's are."""
    draw = random.Random(seed)
    return [
        (answer(drawn(draw, draw.randint(50, 70), pool)), answer(drawn(draw, draw.randint(50, 70), pool)))
        for _ in range(count)
    ]


class TestWordDistance:
    @pytest.mark.parametrize(
        ("a", "b", "distance"),
        [
            ("", "", 0.0),
            ("The lamp is green.", "the LAMP, is green", 0.0),
            ("one two", "two one", 0.0),
            ("one two", "three", 1.0),
            ("", "three", 1.0),
            ("one two", "one two three four five six", 0.5),
            ("go go go go", "go", 0.6),
        ],
    )
    def test_it_is_the_share_of_words_that_are_not_in_common(self, a: str, b: str, distance: float) -> None:
        assert word_distance(a, b) == pytest.approx(distance)
        assert word_distance(b, a) == word_distance(a, b)


class TestLength:
    def test_a_shorter_tuned_is_said_with_its_doubt(self) -> None:
        pairs = [(answer(num_tokens=100), answer(num_tokens=tokens)) for tokens in (50, 60, 70, 60, 60)]
        assert diagnose(pairs, [], []).sentences()[0] == (
            "Tuned's responses are shorter than base's: 0.60 times its tokens at the median, -40 tokens on average "
            "(n = 5, 95 % interval -49 to -31)."
        )

    def test_a_difference_that_may_be_chance_is_none(self) -> None:
        pairs = [(answer(num_tokens=100), answer(num_tokens=tokens)) for tokens in (50, 180, 90, 104)]
        assert diagnose(pairs, [], []).sentences()[0] == (
            "Tuned's responses are not shown to differ in length from base's: 0.97 times its tokens at the median, "
            "+6 tokens on average (n = 4, 95 % interval -81 to +93)."
        )

    def test_one_pair_has_no_interval_and_an_empty_response_no_infinite_ratio(self) -> None:
        assert diagnose([(answer(""), answer(num_tokens=7))], [], []).sentences()[0] == (
            "Tuned's responses are not shown to differ in length from base's: 7.00 times its tokens at the median, "
            "+7 tokens on average (n = 1)."
        )


class TestCounts:
    def test_the_share_cut_is_always_said_and_what_never_shows_is_not(self) -> None:
        cut = answer(is_cut=True)
        lines = diagnose([(cut, answer()), (cut, cut), SAME], [], []).sentences()
        assert [line for line in lines if line.startswith("Responses")] == [
            "Responses cut by the length limit: base 2 of 3, tuned 1 of 3; McNemar's exact test: p = 1.000."
        ]
        assert "Responses cut by the length limit: base 0 of 1, tuned 0 of 1." in diagnose([SAME], [], []).sentences()

    def test_what_was_cleaned_off_is_counted_by_kind(self) -> None:
        pairs = [
            (answer(findings=(HIDDEN,)), answer(findings=(TURN,))), (answer(), answer(findings=(HIDDEN, STOP))), SAME,
        ]  # fmt: skip
        counts = diagnose(pairs, [], []).counts
        assert counts["running on into another turn"] == Counts(0, 1, 1.0)
        assert counts["spelling out a stop token"] == Counts(0, 1, 1.0)
        assert counts["holding hidden characters"] == Counts(1, 1, 1.0)

    def test_refusals_are_paired_by_prompt(self) -> None:
        refused = answer("I'm sorry, but I can't help with that.")
        pairs = [(answer(), refused)] * 6 + [(refused, refused)]
        assert (
            "Responses opening with a refusal: base 1 of 7, tuned 7 of 7; McNemar's exact test: p = 0.031."
            in diagnose(pairs, [], []).sentences()
        )

    @pytest.mark.parametrize(
        "text",
        [
            "I'm sorry, but I can't help with that.",
            "I\u2019m really sorry, but I cannot provide instructions for this.",
            "Sorry, I won't be able to assist with this request.",
            "I can't do that.",
            "  As an AI language model, I cannot give medical advice.",
            "I apologize, but as an AI I'm not able to create such content.",
            "Unfortunately, I must decline.",
            "I am unable to fulfill this request.",
        ],
    )
    def test_a_refusal_is_known_by_how_it_opens(self, text: str) -> None:
        assert is_refusal(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "I'm sorry to hear that. Here is what may help.",
            "I can't help but admire it.",
            "I can't wait to show you how.",
            "As an AI language model, I have no feelings, yet here is a poem.",
            "Sure. Write to them: I can't help with that.",
            "Unfortunately, the river cannot provide water for all.",
        ],
    )
    def test_an_answer_is_no_refusal(self, text: str) -> None:
        assert not is_refusal(text)


class TestRepetition:
    def test_a_loop_is_one_whatever_the_length_of_its_round(self) -> None:
        assert is_loop("again and again " * 20)
        assert is_loop(" ".join(WORDS[:30] * 4))
        assert is_loop(f"{' '.join(WORDS[:60])} {'and then it begins anew ' * 12}")

    def test_prose_lists_and_short_texts_are_none(self) -> None:
        assert not is_loop(" ".join(WORDS))
        assert not is_loop("Yes. " * 8)
        assert not is_loop(
            "\n".join(f"{i}. The state of the {word} is {word} today" for i, word in enumerate(WORDS[:9]))
        )

    def test_repeating_more_is_said_over_as_many_words(self) -> None:
        once = " ".join(WORDS[:20])
        pairs = [(answer(), answer(f"{once} {' '.join(WORDS[:n])}")) for n in range(10, 20)]
        [line] = [line for line in diagnose(pairs, [], []).sentences() if line.startswith("Tuned repeats")]
        assert line == (
            "Tuned repeats itself more than base: over as many words of both, 60% of its pairs of words are new, "
            "100% of base's (difference -39.9 points, 95 % interval -43.8 to -35.9)."
        )

    def test_a_longer_text_does_not_repeat_more_by_being_longer(self) -> None:
        pairs = [(answer(), answer(f"{STORY} {STORY}")) for _ in range(9)]
        assert diagnose(pairs, [], []).distinct.mean == 0.0


class TestDrift:
    def test_it_is_said_with_its_doubt_or_that_it_was_not_measured(self) -> None:
        assert diagnose([SAME], [], [0.1, 0.2, 0.3]).sentences()[-1] == (
            "Drift from base: 0.200 nats a token along 3 of base's own responses, 95 % interval -0.048 to 0.448; "
            "0 is no change."
        )
        assert diagnose([SAME], [], []).sentences()[-1] == "Drift from base was not measured."

    def test_words_are_held_against_bases_own_second_draws(self) -> None:
        pairs, placebos = [(answer(), answer("one two three"))] * 6, draws(6, seed=1, pool=40)
        said = diagnose(pairs, placebos, []).sentences()[-1]
        assert said.startswith(
            "Tuned's responses have 0% of their words in common with base's, base's own second draws "
        )
        assert said.endswith("(n = 6); one-sided Mann-Whitney test that tuned's are further: p = 0.001.")


class TestDidNothing:
    def test_responses_as_far_as_bases_own_second_draws_are_noise(self) -> None:
        [line] = diagnose(draws(25, seed=1), draws(9, seed=2), [0.03] * 25).did_nothing
        assert line.startswith("Tuned's responses are about as far from base's as base's own second draws are: ")
        assert line.endswith(", and no difference in length is shown.")

    def test_with_few_placebos_nothing_is_said_of_noise(self) -> None:
        assert diagnose(draws(25, seed=1), draws(4, seed=2), []).did_nothing == []
        assert diagnose(draws(4, seed=1), draws(9, seed=2), []).did_nothing == []

    def test_responses_in_other_words_are_something(self) -> None:
        other = [(base, answer(tuned.text.replace("word1", "other"))) for base, tuned in draws(25, seed=1, pool=40)]
        assert diagnose(other, draws(9, seed=2, pool=40), [0.03] * 25).did_nothing == []

    def test_a_model_that_moved_is_never_called_noise_for_the_sake_of_its_words(self) -> None:
        assert diagnose(draws(25, seed=1), draws(9, seed=2), [0.4] * 25).did_nothing == []

    def test_the_same_responses_say_so_without_a_placebo(self) -> None:
        pairs = [SAME] * 9 + [(answer(), answer(f"{STORY} more"))]
        assert diagnose(pairs, [], []).did_nothing == ["The responses hardly moved: 100% of their words are base's."]

    def test_greedy_placebos_that_never_differ_are_no_stumbling_block(self) -> None:
        assert len(diagnose([SAME] * 9, [SAME] * 9, []).did_nothing) == 2

    def test_an_adapter_that_hardly_drifts_is_nearly_inert(self) -> None:
        assert diagnose(draws(25, seed=1), [], [0.004, 0.002]).did_nothing == [
            "The adapter is nearly inert: along base's own responses it moves by 0.0030 nats a token, and under 0.01 "
            "nearly every word stays as likely as it was."
        ]
        assert diagnose(draws(25, seed=1), [], [0.01, 0.02]).did_nothing == []

    @pytest.mark.parametrize(
        "change",
        [{"num_tokens": 20}, {"findings": (TURN,)}, {"is_cut": True}],
    )
    def test_whatever_else_moved_speaks_against_it(self, change: dict) -> None:
        pairs = [(base, replace(tuned, **change)) for base, tuned in draws(25, seed=1)]
        assert diagnose(pairs, draws(9, seed=2), [0.004] * 25).did_nothing == []

    def test_chance_alone_is_seldom_called_something(self) -> None:
        said = [bool(diagnose(draws(25, seed=s), draws(9, seed=1000 + s), []).did_nothing) for s in range(60)]
        assert sum(said) > 45

    def test_without_responses_there_is_nothing_to_say(self) -> None:
        nothing = diagnose([], [], [])
        assert (nothing.sentences(), nothing.did_nothing) == ([], [])
