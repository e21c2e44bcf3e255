"""How a comparison stands: what its journal's records add up to, and what of it may be seen already.

Replayed from the records alone, in their order; knows nothing of files, the engine or a judge's calls.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from core.blind import HumanVerdict, Side, draw_sides, human_outcome, unseal
from core.export import Row
from core.judge import BASE, FIRST_SHOWN, NO_VERDICT, TUNED, JudgeOutcome, Ruling, combine
from core.prompts import Prompt
from core.settings import Decoding
from core.stats import Outcome

NOT_JUDGED = f"{NO_VERDICT}:not_judged"


@dataclass(frozen=True)
class Plan:
    """What a comparison set out to do; `judge_model` is empty where nobody judges but the person."""

    adapter: str
    base_model: str
    judge_model: str
    prompts: tuple[Prompt, ...]
    decoding: Decoding
    seed: int
    is_judge_only: bool
    created_at: str
    commitment: str

    def as_record(self) -> dict[str, Any]:
        return {"kind": "start", **asdict(self)}

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Plan":
        values = {name: value for name, value in record.items() if name != "kind"}
        values["prompts"] = tuple(Prompt(**prompt) for prompt in values["prompts"])
        values["decoding"] = Decoding(**values["decoding"])
        return cls(**values)


@dataclass(frozen=True)
class Answer:
    """A contender's response: as it came, and as it is shown and judged."""

    raw: str
    text: str
    num_tokens: int
    is_cut: bool
    note: str


@dataclass
class Standing:
    """Changed by `apply` only. A prompt is open once its vote is in, or where nobody votes: only then do sides show."""

    plan: Plan | None = None
    nonce: bytes = b""
    sides: dict[str, Side] = field(default_factory=dict)
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)
    rulings: dict[str, dict[int, Ruling]] = field(default_factory=dict)
    votes: dict[str, HumanVerdict] = field(default_factory=dict)
    judge_stopped: str = ""
    is_revealed: bool = False

    def apply(self, records: Iterable[dict[str, Any]]) -> None:
        """Take in records, oldest first; one that is damaged, or came too late to count, changes nothing."""
        for record in records:
            apply = APPLY.get(str(record.get("kind")))
            if apply is None or (self.plan is None and apply is not _start):
                continue
            try:
                apply(self, record)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue

    def copy(self) -> "Standing":
        return replace(
            self,
            answers={prompt_id: dict(answers) for prompt_id, answers in self.answers.items()},
            rulings={prompt_id: dict(rulings) for prompt_id, rulings in self.rulings.items()},
            votes=dict(self.votes),
        )

    @property
    def started(self) -> Plan:
        assert self.plan is not None
        return self.plan

    def is_answered(self, prompt_id: str) -> bool:
        return self.answers.get(prompt_id, {}).keys() >= {BASE, TUNED}

    def is_judged(self, prompt_id: str) -> bool:
        return self.rulings.get(prompt_id, {}).keys() >= FIRST_SHOWN.keys()

    def is_open(self, prompt_id: str) -> bool:
        return self.started.is_judge_only or prompt_id in self.votes

    def answer_on(self, prompt_id: str, side: Side) -> Answer:
        contender = TUNED if self.sides[prompt_id] == side else BASE
        return self.answers[prompt_id][contender]

    def human_outcome(self, prompt_id: str) -> Outcome | None:
        """None until voted."""
        verdict = self.votes.get(prompt_id)
        return None if verdict is None else human_outcome(verdict, self.sides[prompt_id])

    def judge_result(self, prompt_id: str) -> JudgeOutcome | None:
        """None until both orders are in and the prompt is open; what stays unjudged at the end is no verdict."""
        if not self.is_open(prompt_id):
            return None
        if self.is_judged(prompt_id):
            rulings = self.rulings[prompt_id]
            return combine(rulings[1], rulings[2])
        if self.started.is_judge_only and self.is_revealed:
            return JudgeOutcome(NOT_JUDGED, NOT_JUDGED, Outcome.NO_VERDICT, "", {})
        return None

    def outcomes(self, by: str) -> list[Outcome]:
        """The outcomes so far, the person's or the judge's, of the open prompts."""
        ids = [prompt.id for prompt in self.started.prompts]
        if by == "human":
            return [outcome for outcome in map(self.human_outcome, ids) if outcome is not None]
        return [result.outcome for result in map(self.judge_result, ids) if result is not None]

    def row(self, prompt: Prompt) -> Row:
        """A prompt's row; until it is open, nothing in it tells the contenders apart."""
        plan, is_shown = self.started, self.is_open(prompt.id)
        answers = self.answers.get(prompt.id, {}) if is_shown else {}
        base, tuned = answers.get(BASE), answers.get(TUNED)
        judged, outcome = self.judge_result(prompt.id), self.human_outcome(prompt.id)
        return Row(
            prompt_id=prompt.id,
            category=prompt.category,
            prompt=prompt.prompt,
            base_response=base.text if base else "",
            tuned_response=tuned.text if tuned else "",
            tuned_side=self.sides[prompt.id] if is_shown else "",
            human_verdict=self.votes.get(prompt.id, ""),
            human_outcome=outcome or "",
            judge_order_1=judged.order_1 if judged else "",
            judge_order_2=judged.order_2 if judged else "",
            judge_outcome=judged.outcome if judged else "",
            judge_reason=judged.reason if judged else "",
            base_model=plan.base_model,
            adapter=plan.adapter,
            judge_model=plan.judge_model,
            base_tokens=base.num_tokens if base else None,
            tuned_tokens=tuned.num_tokens if tuned else None,
            seed=plan.seed,
            created_at=plan.created_at,
        )


def _start(standing: Standing, record: dict[str, Any]) -> None:
    standing.plan = standing.plan or Plan.of(record)


def _sealed(standing: Standing, record: dict[str, Any]) -> None:
    if not standing.nonce:
        standing.nonce = unseal(record["box"])
        standing.sides = draw_sides(standing.nonce, [prompt.id for prompt in standing.started.prompts])


def _answer(standing: Standing, record: dict[str, Any]) -> None:
    answer = Answer(**{name: record[name] for name in ("raw", "text", "num_tokens", "is_cut", "note")})
    standing.answers.setdefault(record["prompt_id"], {}).setdefault(record["contender"], answer)


def _ruling(standing: Standing, record: dict[str, Any]) -> None:
    names = ("winner", "reason", "observations", "is_manipulated", "scores")
    ruling = Ruling(**{name: record[name] for name in names})
    standing.rulings.setdefault(record["prompt_id"], {}).setdefault(record["order"], ruling)
    standing.judge_stopped = ""


def _vote(standing: Standing, record: dict[str, Any]) -> None:
    standing.votes.setdefault(record["prompt_id"], HumanVerdict(record["verdict"]))


def _undo(standing: Standing, record: dict[str, Any]) -> None:
    standing.votes.pop(record["prompt_id"], None)


def _judge_stopped(standing: Standing, record: dict[str, Any]) -> None:
    standing.judge_stopped = str(record["reason"])


def _revealed(standing: Standing, record: dict[str, Any]) -> None:
    standing.is_revealed = True


APPLY = {
    "start": _start,
    "sealed": _sealed,
    "response": _answer,
    "ruling": _ruling,
    "vote": _vote,
    "undo": _undo,
    "judge_stopped": _judge_stopped,
    "revealed": _revealed,
}
