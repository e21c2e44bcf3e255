"""What two models' responses show without any judge: length, repetition, refusals, what leaked, and how far they moved.

Pure over texts and figures; knows nothing of who voted. Refusals and words are told in English and its like alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final

from core.normalise import HIDDEN, STOP, TURN, Answer
from core.stats import ALPHA, Mean, mcnemar, mean_interval, p_words

# Prose repeats a few in a hundred of its runs of four words; a third is a loop, of whatever length its round is.
LOOP_SHARE: Final = 1 / 3
MIN_LOOP_RUNS: Final = 12
# By Pinsker's inequality not one word in fourteen would then be drawn differently; a run that took goes far past it.
INERT_NATS: Final = 0.01
# An adapter that moved so far is doing something, whatever the words' own noise hides.
MOVED_NATS: Final = 0.1
# Less of their words than this apart is no difference that a reader would see.
SMALL_DISTANCE: Final = 0.05
# With fewer pairs of either kind, the test that holds one against the other could hardly show anything.
MIN_PLACEBOS: Final = 5

WORD = re.compile(r"\w+")
# What a refusal opens with, in any number; then that it will not, and what. "I can't help but" is none.
REFUSAL = re.compile(
    r"""\W*(?:(?:(?:i'm|i\ am)\ (?:\w+\ )?sorry|sorry|i\ apologi[sz]e|unfortunately|as\ an?\ [\w\ ]*(?:ai|model))\W+
    (?:but\ |however\W+)?)*
    i(?:\ (?:must|have\ to)\ (?:decline|refuse)\b|\ (?:decline|refuse)\ to\b|
    (?:\ can't|\ cannot|\ can\ not|(?:\ won't|\ will\ not)(?:\ be\ able\ to)?|(?:'m|\ am)\ (?:unable|not\ able)\ to)\s
    (?:help(?!\ but)|assist|provide|answer|fulfil|comply|do\ that|create|write|give|offer|support|engage|discuss|share|
    generate|participate|tell\ you|produce|recommend|advise|encourage|condone|in\ good\ conscience))""",
    re.IGNORECASE | re.VERBOSE,
)


# What base and what tuned said to one prompt; of a placebo, the second is base's second draw.
Pair = tuple[Answer, Answer]


@dataclass(frozen=True)
class Counts:
    """How many of base's and of tuned's responses show something, and McNemar's exact p-value of the difference."""

    base: int
    tuned: int
    p: float


@dataclass(frozen=True)
class Distance:
    """Mean `word_distance` of tuned's responses, and of base's second draws, from base's; None where there are none.

    `p`: Mann and Whitney's one-sided test that tuned's are further. Mann and Whitney, Ann. Math. Stat. 18 (1947).
    """

    tuned: float | None
    placebo: float | None
    num_placebos: int
    p: float | None


# What a response may show, by the words that a sentence says it in.
SIGNS: Final[Mapping[str, Callable[[Answer], bool]]] = {
    "cut by the length limit": lambda answer: answer.is_cut,
    "caught in a loop": lambda answer: is_loop(answer.text),
    "opening with a refusal": lambda answer: is_refusal(answer.text),
    "running on into another turn": lambda answer: TURN in answer.findings,
    "spelling out a stop token": lambda answer: STOP in answer.findings,
    "holding hidden characters": lambda answer: HIDDEN in answer.findings,
}
CUT: Final = next(iter(SIGNS))


@dataclass(frozen=True)
class Diagnostics:
    """Every figure, tuned minus base where two are paired. `length` in tokens, `drift` in nats a token.

    `distinct`: the share of a response's pairs of words that are new in it, over as many words of both responses.
    `counts`: by the words of SIGNS.
    """

    num_pairs: int
    length_ratio: float | None
    length: Mean
    distinct: Mean
    distinct_base: float | None
    distinct_tuned: float | None
    counts: Mapping[str, Counts]
    drift: Mean
    distance: Distance

    def sentences(self) -> list[str]:
        """Length, cuts and drift always; the rest where there is something to say."""
        if not self.num_pairs:
            return []
        counts = [self._count(sign) for sign in SIGNS]
        return [line for line in (self._length(), *counts, self._distinct(), self._drift(), self._distance()) if line]

    @property
    def did_nothing(self) -> list[str]:
        """Each reason to say that the fine-tune did nothing; empty where none holds, or where any figure did move."""
        if self._has_moved():
            return []
        return [line for line in (self._inert(), self._still(), self._within_noise()) if line]

    def _length(self) -> str:
        how = {-1: "shorter than", 0: "not shown to differ in length from", 1: "longer than"}[_direction(self.length)]
        return (
            f"Tuned's responses are {how} base's: {self.length_ratio:.2f} times its tokens at the median, "
            f"{self.length.mean:+,.0f} tokens on average (n = {self.num_pairs}{_interval(self.length, '+,.0f')})."
        )

    def _count(self, sign: str) -> str:
        counts = self.counts[sign]
        if not counts.base and not counts.tuned and sign != CUT:
            return ""
        test = f"; McNemar's exact test: {p_words(counts.p)}" if counts.base != counts.tuned else ""
        n = self.num_pairs
        return f"Responses {sign}: base {counts.base} of {n}, tuned {counts.tuned} of {n}{test}."

    def _distinct(self) -> str:
        if not (direction := _direction(self.distinct)):
            return ""
        return (
            f"Tuned repeats itself {'more' if direction < 0 else 'less'} than base: over as many words of both, "
            f"{self.distinct_tuned:.0%} of its pairs of words are new, {self.distinct_base:.0%} of base's (difference "
            f"{100 * (self.distinct.mean or 0):+.1f} points{_interval(self.distinct, '+.1f', 100)})."
        )

    def _drift(self) -> str:
        if self.drift.mean is None:
            return "Drift from base was not measured."
        return (
            f"Drift from base: {self.drift.mean:.3f} nats a token along {self.drift.n} of base's own responses"
            f"{_interval(self.drift, '.3f')}; 0 is no change."
        )

    def _distance(self) -> str:
        tuned, placebo = self.distance.tuned, self.distance.placebo
        if tuned is None or placebo is None or self.distance.p is None:
            return ""
        return (
            f"Tuned's responses have {1 - tuned:.0%} of their words in common with base's, base's own second draws "
            f"{1 - placebo:.0%} (n = {self.distance.num_placebos}); one-sided Mann-Whitney test that tuned's are "
            f"further: {p_words(self.distance.p)}."
        )

    def _has_moved(self) -> bool:
        # A habit in one place of a response leaves its drift and its words nearly alone, and may show elsewhere.
        tests = [counts.p for counts in self.counts.values()]
        tests += [] if self.distance.p is None else [self.distance.p]
        return min(tests, default=1.0) < ALPHA or bool(_direction(self.length) or _direction(self.distinct))

    def _inert(self) -> str:
        if self.drift.mean is None or self.drift.mean >= INERT_NATS:
            return ""
        return (
            f"The adapter is nearly inert: along base's own responses it moves by {self.drift.mean:.4f} nats a token, "
            f"and under {INERT_NATS:g} nearly every word stays as likely as it was."
        )

    def _still(self) -> str:
        if self.distance.tuned is None or self.distance.tuned >= SMALL_DISTANCE:
            return ""
        return f"The responses hardly moved: {1 - self.distance.tuned:.0%} of their words are base's."

    def _within_noise(self) -> str:
        tuned, placebo, p = self.distance.tuned, self.distance.placebo, self.distance.p
        is_enough = min(self.distance.num_placebos, self.num_pairs) >= MIN_PLACEBOS
        if tuned is None or placebo is None or p is None or not is_enough:
            return ""
        if tuned - placebo >= SMALL_DISTANCE or (self.drift.mean or 0.0) >= MOVED_NATS:
            return ""
        return (
            f"Tuned's responses are about as far from base's as base's own second draws are: {1 - tuned:.0%} of their "
            f"words in common against {1 - placebo:.0%} ({self.distance.num_placebos} placebo pairs, {p_words(p)}), "
            "and no difference in length is shown."
        )


def diagnose(pairs: Sequence[Pair], placebos: Sequence[Pair], drift: Sequence[float]) -> Diagnostics:
    """`drift`: `evaluate.drift` of base's responses, empty where it was not measured. Pairs count as independent."""
    ratios = [tuned.num_tokens / max(base.num_tokens, 1) for base, tuned in pairs]
    distinct = [shares for base, tuned in pairs if (shares := _distinct(base.text, tuned.text))]
    return Diagnostics(
        num_pairs=len(pairs),
        length_ratio=median(ratios) if ratios else None,
        length=mean_interval(tuned.num_tokens - base.num_tokens for base, tuned in pairs),
        distinct=mean_interval(tuned - base for base, tuned in distinct),
        distinct_base=fmean(base for base, _ in distinct) if distinct else None,
        distinct_tuned=fmean(tuned for _, tuned in distinct) if distinct else None,
        counts={sign: _counts(pairs, is_shown) for sign, is_shown in SIGNS.items()},
        drift=mean_interval(drift),
        distance=_measure(pairs, placebos),
    )


def word_distance(a: str, b: str) -> float:
    """0: the same words, each as often, in whatever order; 1: not one in common (Dice's coefficient taken from 1)."""
    one, other = Counter(_words(a)), Counter(_words(b))
    total = one.total() + other.total()
    return 1 - 2 * (one & other).total() / total if total else 0.0


def is_loop(text: str) -> bool:
    """Whether a third of its runs of four words have been said before."""
    words = _words(text)
    runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return len(runs) >= MIN_LOOP_RUNS and 1 - len(set(runs)) / len(runs) >= LOOP_SHARE


def is_refusal(text: str) -> bool:
    opening = text[:300].replace("\u2019", "'")
    return REFUSAL.match(opening) is not None


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _distinct(base: str, tuned: str) -> tuple[float, float] | None:
    # Over as many words of both: a longer text repeats more by being longer. "Distinct-2" of Li et al. (2016).
    both = _words(base), _words(tuned)
    count = min(map(len, both)) - 1
    if count < 1:
        return None
    one, other = (len({*zip(words[:count], words[1 : count + 1], strict=True)}) / count for words in both)
    return one, other


def _counts(pairs: Sequence[Pair], is_shown: Callable[[Answer], bool]) -> Counts:
    shown = Counter((is_shown(base), is_shown(tuned)) for base, tuned in pairs)
    both, only_base, only_tuned = shown[True, True], shown[True, False], shown[False, True]
    return Counts(both + only_base, both + only_tuned, mcnemar(only_base, only_tuned))


def _measure(pairs: Sequence[Pair], placebos: Sequence[Pair]) -> Distance:
    tuned, noise = ([word_distance(base.text, other.text) for base, other in some] for some in (pairs, placebos))
    p = None
    if tuned and noise:
        from scipy.stats import mannwhitneyu

        p = float(mannwhitneyu(tuned, noise, alternative="greater").pvalue)
    return Distance(fmean(tuned) if tuned else None, fmean(noise) if noise else None, len(noise), p)


def _direction(mean: Mean) -> int:
    """-1 or 1 where the whole interval is on that side of 0, else 0."""
    if mean.low is None or mean.high is None:
        return 0
    return (mean.low > 0) - (mean.high < 0)


def _interval(mean: Mean, form: str, scale: float = 1.0) -> str:
    if mean.low is None or mean.high is None:
        return ""
    return f", 95 % interval {scale * mean.low:{form}} to {scale * mean.high:{form}}"
