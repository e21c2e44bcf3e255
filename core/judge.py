"""Which of two responses is better, asked of Gemini blind and in both orders.

Knows nothing of sides, votes or the journal: it is handed a prompt, base's and tuned's response, and gives an outcome.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from core.gemini import Gemini
from core.gemini_wire import Failure
from core.prompts import Prompt
from core.redact import api_key, redact
from core.rubric import DIMENSIONS, PROMPT_VERSION, SCHEMA_VERSION, Judgement, Winner, rules_for, write_question
from core.stats import Outcome

DEFAULT_MODEL = "gemini-3.8-flash"

BASE, TUNED, TIE = "base", "tuned", "tie"
NO_VERDICT = "no_verdict"
# Judges favour one position, so every pair is judged in both orders: this is who is RESPONSE_1 and RESPONSE_2 in each.
SHOWN = {1: (BASE, TUNED), 2: (TUNED, BASE)}

# What stands behind `no_verdict:`, in words for people: of one call, of all further ones, and of none.
REASON_WORDS = {
    "blocked": "blocked by Gemini",
    "truncated": "cut short by Gemini",
    "invalid": "answered in no usable form",
    "bad_request": "refused as a request",
    "rate_limited": "held back by the rate limit too long",
    "server_error": "failed on Gemini's side",
    "timeout": "not answered in time",
    "offline": "Gemini could not be reached",
    "key_refused": "key refused",
    "quota": "the day's quota used up",
    "model": "no such judge model",
    "account": "account not served",
    "not_answered": "not answered",
    "not_judged": "not judged",
    "not_voted": "not voted",
    "skipped": "skipped",
}


@dataclass(frozen=True)
class Ruling:
    """One order's result in terms of contenders. `winner`: base, tuned, tie or `no_verdict:<reason>`.

    `strength`: slight, clear or strong where there is a winner. `key`: what exactly was asked, see `ruling_key`.
    """

    winner: str
    reason: str = ""
    observations: str = ""
    is_manipulated: bool = False
    scores: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    strength: str = ""
    key: str = ""

    @property
    def is_verdict(self) -> bool:
        return not self.winner.startswith(NO_VERDICT)


SAME = Ruling(TIE, "Both responses are the same.")


@dataclass(frozen=True)
class JudgeOutcome:
    """Both orders together. `scores`: contender -> dimension -> mean of both orders; empty where one is missing.

    `leaning`: who won the one order where the other was tied, base or tuned.
    """

    order_1: str
    order_2: str
    outcome: Outcome
    reason: str
    scores: Mapping[str, Mapping[str, float]]
    leaning: str = ""

    @property
    def reasons(self) -> list[str]:
        """Why an order has no verdict, each reason once."""
        return list(dict.fromkeys(order.partition(":")[2] for order in (self.order_1, self.order_2) if ":" in order))


class Judge:
    """One model's verdicts, for any number of threads.

    Once a call has shown that none can succeed, no further one is made: a new Judge tries again.
    """

    def __init__(self, gemini: Gemini) -> None:
        self.model = gemini.model
        self._gemini = gemini

    def judge_pair(
        self,
        prompt: Prompt,
        base: str,
        tuned: str,
        is_cancelled: Callable[[], bool] = lambda: False,
        known: Mapping[int, Ruling] | None = None,
        on_ruling: Callable[[int, Ruling], None] = lambda order, ruling: None,
    ) -> JudgeOutcome:
        """Ask in both orders, but for those already `known` to the same question; `on_ruling` hears of each new one.

        Equal responses are a tie without a call. JudgeError where no call can succeed, Cancelled where stopped.
        """
        responses, deadline = {BASE: base, TUNED: tuned}, self._gemini.deadline()
        rulings = dict(known or {})
        for order, key in ruling_keys(self.model, prompt, base, tuned).items():
            if order not in rulings or rulings[order].key != key:
                ruling = SAME if base == tuned else self._rule(prompt, responses, order, deadline, is_cancelled)
                rulings[order] = replace(ruling, key=key)
                on_ruling(order, rulings[order])
        return combine(rulings[1], rulings[2])

    def _rule(
        self, prompt: Prompt, responses: Mapping[str, str], order: int, deadline: float,
        is_cancelled: Callable[[], bool],
    ) -> Ruling:  # fmt: skip
        first, second = SHOWN[order]
        question = write_question(prompt.prompt, responses[first], responses[second], secrets.token_hex(8))
        reply = self._gemini.ask(rules_for(prompt.category), question, Judgement, deadline, is_cancelled)
        if isinstance(reply, Failure):
            return Ruling(f"{NO_VERDICT}:{reply.reason}")
        return _unblinded(reply, first, second)


def load_judge(model: str = DEFAULT_MODEL) -> Judge:
    """The judge under the user's key; RequestError where there is none, or one that no server would take."""
    return Judge(Gemini(api_key("GEMINI_API_KEY"), model, os.environ.get("GOOGLE_GEMINI_BASE_URL") or None))


def ruling_keys(model: str, prompt: Prompt, base: str, tuned: str) -> dict[int, str]:
    texts = {BASE: base, TUNED: tuned}
    return {order: ruling_key(model, prompt, texts[first], texts[second]) for order, (first, second) in SHOWN.items()}


def ruling_key(model: str, prompt: Prompt, first: str, second: str) -> str:
    """SHA-256, in hex, over all that a ruling depends on; `first` and `second` are the texts in the order shown."""
    asked = [PROMPT_VERSION, SCHEMA_VERSION, model, prompt.category, prompt.prompt, first, second]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def combine(order_1: Ruling, order_2: Ruling) -> JudgeOutcome:
    """A win needs both orders; one tied is a tie, disagreement is a flip, and without a verdict there is none."""
    winners = {order_1.winner, order_2.winner}
    if not (order_1.is_verdict and order_2.is_verdict):
        outcome = Outcome.NO_VERDICT
    elif TIE in winners:
        outcome = Outcome.TIE
    elif len(winners) == 2:
        outcome = Outcome.FLIP
    else:
        outcome = Outcome.WIN if order_1.winner == TUNED else Outcome.LOSS
    reasons = dict.fromkeys(ruling.reason for ruling in (order_1, order_2) if ruling.reason)
    leaning = "".join(winners - {TIE}) if outcome is Outcome.TIE else ""
    return JudgeOutcome(
        order_1.winner, order_2.winner, outcome, "\n".join(reasons), _mean_scores(order_1, order_2), leaning
    )


def _mean_scores(order_1: Ruling, order_2: Ruling) -> dict[str, dict[str, float]]:
    if not (order_1.scores and order_2.scores):
        return {}
    return {
        contender: {
            name: (order_1.scores[contender][name] + order_2.scores[contender][name]) / 2 for name in DIMENSIONS
        }
        for contender in (BASE, TUNED)
    }


def _unblinded(judgement: Judgement, first: str, second: str) -> Ruling:
    """The judge's labels turned back into contenders, in its words too."""
    names = {Winner.RESPONSE_1: first, Winner.RESPONSE_2: second, Winner.TIE: TIE}

    def named(text: str) -> str:
        text = re.sub(r"RESPONSE[_ ]?([12])", lambda match: first if match[1] == "1" else second, text, flags=re.I)
        # It goes into the journal, the log and the table.
        return redact(text)

    return Ruling(
        names[judgement.winner],
        named(judgement.reason),
        named(judgement.observations),
        judgement.is_manipulated,
        {first: judgement.scores_1.model_dump(), second: judgement.scores_2.model_dump()},
        "" if judgement.winner is Winner.TIE else judgement.strength.value,
    )
