"""How a comparison stands: what its journal's records add up to.

Replayed from the records alone, in their order; knows nothing of files, the engine or a judge's calls, and of no
figure. Nothing of it says who is who until all is revealed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from core.blind import HumanVerdict, Item, Side, commit, deal, human_outcome, unseal
from core.judge import BASE, NO_VERDICT, SHOWN, TUNED, JudgeOutcome, Ruling, combine
from core.normalise import Answer
from core.prompts import Prompt
from core.settings import Decoding
from core.stats import Outcome

# A journal of another format is no journal of ours: what its records mean has changed.
FORMAT = 2
NOT_ANSWERED, NOT_JUDGED = "not_answered", "not_judged"


class Decider(StrEnum):
    HUMAN = "human"
    JUDGE = "judge"


@dataclass(frozen=True)
class Plan:
    """What a comparison set out to do, fixed before anything was asked.

    `judge_model` is empty where nobody judges; `is_judge_only` where nobody votes. `primary` decides the headline.
    `num_earlier`: comparisons on the same prompts before this one. `trained_on`: ids of prompts that the adapter was
    trained on. `adapter_seal` identifies the adapter's files. `held_out`: what the adapter's run measured on its
    held-out pairs.
    """

    adapter: str
    adapter_seal: str
    base_model: str
    judge_model: str
    prompts: tuple[Prompt, ...]
    decoding: Decoding
    seed: int
    samples: int
    num_placebos: int
    primary: Decider
    is_judge_only: bool
    num_earlier: int
    trained_on: tuple[str, ...]
    created_at: str
    commitment: str
    held_out: Mapping[str, Any] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        prompts = [prompt.as_record() for prompt in self.prompts]
        return {"format": FORMAT, **asdict(self), "prompts": prompts}

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Plan":
        values = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        values["prompts"] = tuple(Prompt.of(prompt) for prompt in values["prompts"])
        values["decoding"] = Decoding(**values["decoding"])
        values["primary"] = Decider(values["primary"])
        values["trained_on"] = tuple(values["trained_on"])
        return cls(**values)


@dataclass
class Standing:
    """Changed by `apply` only. By item id: `answers` (base's and tuned's), `rulings` (by order), `votes`.

    `drift`: tuned's from base, nats a token, on as many of base's responses as it could be measured on. A broken seal:
    the nonce, or what is dealt from it, is not what was committed to. `num_asked_again`: after the result was out.
    """

    plan: Plan | None = None
    nonce: bytes = b""
    items: dict[str, Item] = field(default_factory=dict)
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)
    rulings: dict[str, dict[int, Ruling]] = field(default_factory=dict)
    votes: dict[str, HumanVerdict] = field(default_factory=dict)
    drift: tuple[float, ...] = ()
    judge_stopped: str = ""
    judge_stop_reason: str = NOT_JUDGED
    is_seal_broken: bool = False
    is_revealed: bool = False
    is_early: bool = False
    num_asked_again: int = 0

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
            answers={item_id: dict(answers) for item_id, answers in self.answers.items()},
            rulings={item_id: dict(rulings) for item_id, rulings in self.rulings.items()},
            votes=dict(self.votes),
        )

    @property
    def started(self) -> Plan:
        assert self.plan is not None
        return self.plan

    @property
    def prompts(self) -> dict[str, Prompt]:
        return {prompt.id: prompt for prompt in self.started.prompts}

    def real_items(self) -> list[Item]:
        """Base against tuned, prompt by prompt in the plan's order."""
        places = {prompt.id: place for place, prompt in enumerate(self.started.prompts)}
        real = (item for item in self.items.values() if not item.is_placebo)
        return sorted(real, key=lambda item: (places[item.prompt_id], item.sample))

    def placebos(self) -> list[Item]:
        return [item for item in self.items.values() if item.is_placebo]

    def is_answered(self, item_id: str) -> bool:
        return self.answers.get(item_id, {}).keys() >= {BASE, TUNED}

    def is_judged(self, item_id: str) -> bool:
        return self.rulings.get(item_id, {}).keys() >= SHOWN.keys()

    def is_done(self) -> bool:
        """Every verdict that the result waits for is in. A judge that cannot go on holds up only its own result."""
        plan = self.started
        is_voted = plan.is_judge_only or self.votes.keys() >= self.items.keys()
        is_answered = all(map(self.is_answered, self.items))
        is_judged = not plan.judge_model or all(map(self.is_judged, self.items))
        return is_voted and is_answered and (is_judged or bool(self.judge_stopped and plan.primary is Decider.HUMAN))

    def is_primary_done(self) -> bool:
        """Nothing more could come of whoever decides the headline."""
        given = self.is_judged if self.started.primary is Decider.JUDGE else self.votes.__contains__
        return all(map(given, self.items))

    def answer_on(self, item_id: str, side: Side) -> Answer:
        return self.answers[item_id][TUNED if self.items[item_id].tuned_side == side else BASE]

    def pair(self, item_id: str) -> tuple[Answer, Answer]:
        """What base and what tuned said, of an item that is answered."""
        return self.answers[item_id][BASE], self.answers[item_id][TUNED]

    def human_outcome(self, item_id: str) -> Outcome:
        """For the tuned model; what was not voted on has no verdict."""
        verdict = self.votes.get(item_id, HumanVerdict.SKIP)
        return human_outcome(verdict, self.items[item_id].tuned_side)

    def judge_result(self, item_id: str) -> JudgeOutcome:
        """Both orders together; one that was never asked has no verdict, by its reason."""
        reason = self.judge_stop_reason if self.is_answered(item_id) else NOT_ANSWERED
        missing = Ruling(f"{NO_VERDICT}:{reason}")
        rulings = self.rulings.get(item_id, {})
        return combine(*(rulings.get(order, missing) for order in SHOWN))

    def outcome(self, item_id: str, by: Decider) -> Outcome:
        return self.human_outcome(item_id) if by is Decider.HUMAN else self.judge_result(item_id).outcome


def _fields_of(kind: type, record: dict[str, Any]) -> dict[str, Any]:
    return {field.name: record[field.name] for field in fields(kind)}


def _start(standing: Standing, record: dict[str, Any]) -> None:
    if record["format"] == FORMAT:
        standing.plan = standing.plan or Plan.of(record)


def _sealed(standing: Standing, record: dict[str, Any]) -> None:
    if not standing.nonce:
        plan, nonce = standing.started, unseal(record["box"])
        dealt = deal(nonce, [prompt.id for prompt in plan.prompts], plan.samples, plan.num_placebos)
        standing.is_seal_broken = commit(nonce, dealt) != plan.commitment
        standing.nonce, standing.items = nonce, {item.id: item for item in dealt}


def _answer(standing: Standing, record: dict[str, Any]) -> None:
    answer = Answer(**_fields_of(Answer, record | {"findings": tuple(record["findings"])}))
    standing.answers.setdefault(record["item"], {}).setdefault(record["slot"], answer)


def _drift(standing: Standing, record: dict[str, Any]) -> None:
    standing.drift = tuple(float(value) for value in record["values"])


def _ruling(standing: Standing, record: dict[str, Any]) -> None:
    # The last one counts: it was asked because the one before no longer fitted, or had failed.
    standing.rulings.setdefault(record["item"], {})[record["order"]] = Ruling(**_fields_of(Ruling, record))
    standing.judge_stopped, standing.judge_stop_reason = "", NOT_JUDGED


def _retry(standing: Standing, record: dict[str, Any]) -> None:
    failed = f"{NO_VERDICT}:{record['reason']}"
    standing.num_asked_again += standing.is_revealed
    for rulings in standing.rulings.values():
        for order in [order for order, ruling in rulings.items() if ruling.winner == failed]:
            del rulings[order]
    standing.judge_stopped, standing.judge_stop_reason = "", NOT_JUDGED


def _vote(standing: Standing, record: dict[str, Any]) -> None:
    standing.votes.setdefault(record["item"], HumanVerdict(record["verdict"]))


def _undo(standing: Standing, record: dict[str, Any]) -> None:
    standing.votes.pop(record["item"], None)


def _judge_stopped(standing: Standing, record: dict[str, Any]) -> None:
    standing.judge_stopped = str(record["sentence"])
    standing.judge_stop_reason = str(record["reason"]) or NOT_JUDGED


def _revealed(standing: Standing, record: dict[str, Any]) -> None:
    standing.is_revealed, standing.is_early = True, bool(record["is_early"])


APPLY = {
    "start": _start,
    "sealed": _sealed,
    "response": _answer,
    "drift": _drift,
    "ruling": _ruling,
    "retry": _retry,
    "vote": _vote,
    "undo": _undo,
    "judge_stopped": _judge_stopped,
    "revealed": _revealed,
}
