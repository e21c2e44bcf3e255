"""Blind comparisons: base and tuned answer the same prompts, a person and a judge say which is better.

The journal is the truth: whatever was asked, ruled or voted is in it at once, and a comparison that is opened again
goes on where it stood. Knows nothing of Gradio, Gemini or the GPU: it is handed an `answer` function and a judge.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core.blind import HumanVerdict, Item, Side, commit, deal, draw_nonce, seal
from core.compare_run import Answerer, Drifter, Progress, Work
from core.errors import AdapterError, PlaygroundError, RequestError
from core.journal import Journal
from core.judge import Judge
from core.ledger import Ledger
from core.paths import logs_dir
from core.prompt_sets import digest, trained_on
from core.prompts import Prompt, check_prompts
from core.results import Results
from core.runs import adapter_dir, read_run
from core.settings import Decoding
from core.standing import Decider, Plan, Standing
from core.stats import Outcome
from core.vote_pairs import Decided

STEM = "model_comparison"
HELD_OUT = ("held_out", "base_k", "tuned_k", "mcnemar_p", "margin")


@dataclass(frozen=True)
class Card:
    """All that a person sees of an item before voting; `number` is its place among all, from 1."""

    item_id: str
    number: int
    category: str
    prompt: str
    response_a: str
    response_b: str


@dataclass(frozen=True)
class Counts:
    """How many items are answered, judged and voted on, of how many."""

    answered: int
    judged: int
    voted: int
    total: int


class Comparison:
    """One comparison, by its journal. Safe to use from several threads, and to open more than once."""

    def __init__(self, journal: Journal) -> None:
        self._ledger = Ledger(journal)

    @classmethod
    def create(
        cls,
        adapter: str,
        base_model: str,
        prompts: Iterable[Prompt],
        decoding: Decoding,
        judge_model: str = "",
        seed: int = 0,
        samples: int = 1,
        num_placebos: int = 0,
        primary: Decider = Decider.HUMAN,
        is_judge_only: bool = False,
    ) -> "Comparison":
        """Begin a comparison: sides, order and placebos are drawn and committed to before anything is asked."""
        checked = tuple(check_prompts(prompts))
        if samples > 1 and decoding.temperature == 0:
            raise RequestError(
                "At temperature 0 every draw is the same. Draw each prompt once, or raise the temperature."
            )
        nonce, now = draw_nonce(), datetime.now().astimezone()
        num_placebos = min(num_placebos, len(checked))
        plan = Plan(
            adapter, adapter_seal(adapter), base_model, judge_model, checked, decoding, seed, samples, num_placebos,
            primary, is_judge_only, _count_earlier(checked), tuple(trained_on(adapter, checked)),
            now.isoformat(timespec="seconds"),
            commit(nonce, deal(nonce, [prompt.id for prompt in checked], samples, num_placebos)),
            _held_out(adapter),
        )  # fmt: skip
        comparison = cls(Journal.create(logs_dir(), f"{STEM}_{now:%Y%m%d_%H%M%S}"))
        comparison._ledger.add_alone("start", **plan.as_record(), digest=digest(checked))
        comparison._ledger.add_alone("sealed", box=seal(nonce))
        comparison._ledger.write_log()
        return comparison

    @classmethod
    def open(cls, path: Path) -> "Comparison":
        """The comparison as its journal left it; RequestError where the file is none."""
        if not path.is_file():
            raise RequestError(f"There is no comparison at {path}. Choose one of the list, or start a new one.")
        comparison = cls(Journal(path))
        standing = comparison._ledger.read()
        if standing.plan is None or not standing.items:
            raise RequestError(f"{path} is no comparison's journal of this version, or its beginning is damaged.")
        if standing.is_seal_broken:
            raise RequestError(f"The seal of {path} is broken: its sides are not those that were committed to.")
        return comparison

    @classmethod
    def latest(cls) -> "Comparison | None":
        """The newest comparison that can be opened."""
        for path in list_comparisons():
            with contextlib.suppress(RequestError):
                return cls.open(path)
        return None

    @property
    def path(self) -> Path:
        return self._ledger.journal.path

    @property
    def log_path(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def plan(self) -> Plan:
        return self._ledger.read().started

    @property
    def judge_stopped(self) -> str:
        """The sentence with which the judge gave up, or nothing."""
        return self._ledger.read().judge_stopped

    def counts(self) -> Counts:
        standing = self._ledger.read()
        answered, judged = (sum(map(test, standing.items)) for test in (standing.is_answered, standing.is_judged))
        return Counts(answered, judged, len(standing.votes), len(standing.items))

    def card(self, item_id: str) -> Card:
        """Both responses of an item by side; RequestError until they are there."""
        standing = self._ledger.read()
        item = _answered_item(standing, item_id)
        prompt = standing.prompts[item.prompt_id]
        texts = (standing.answer_on(item.id, side).text for side in Side)
        return Card(item.id, list(standing.items).index(item.id) + 1, prompt.category, prompt.prompt, *texts)

    def is_voted(self, item_id: object) -> bool:
        return item_id in self._ledger.read().votes

    def pending(self) -> list[str]:
        """The ids of the items that wait for a vote, both responses being there."""
        standing = self._ledger.read()
        if standing.started.is_judge_only or standing.is_revealed:
            return []
        return [
            item_id for item_id in standing.items if standing.is_answered(item_id) and item_id not in standing.votes
        ]

    def failed(self) -> dict[str, int]:
        """Why items lack a verdict of the judge, with how many each, so that each reason can be tried again."""
        standing = self._ledger.read()
        if not standing.started.judge_model:
            return {}
        asked = [
            item_id for item_id in filter(standing.is_answered, standing.items)
            if standing.is_judged(item_id) or standing.judge_stopped
        ]  # fmt: skip
        return dict(Counter(reason for item_id in asked for reason in standing.judge_result(item_id).reasons))

    def vote(self, item_id: str, verdict: HumanVerdict | str) -> None:
        """Store a vote at once. The last one opens the seal, unless the judge is still at it."""
        if verdict not in list(HumanVerdict):
            raise RequestError(f"A vote is one of {', '.join(HumanVerdict)}, not {str(verdict)[:40]!r}.")
        with self._ledger.alone() as standing:
            _check_vote(standing, item_id)
            self._ledger.add(standing, "vote", item=item_id, verdict=str(verdict))
            self._ledger.reveal_if_done(standing)
        self._ledger.write_log()

    def undo(self) -> str:
        """Take the last vote back and say which item's it was; RequestError once the sides are out."""
        with self._ledger.alone() as standing:
            if standing.is_revealed:
                raise RequestError("Every vote is in and the sides are shown, so votes can no longer be taken back.")
            if not standing.votes:
                raise RequestError("There is no vote to take back.")
            item_id = list(standing.votes)[-1]
            self._ledger.add(standing, "undo", item=item_id)
        self._ledger.write_log()
        return item_id

    def end_early(self) -> None:
        """Show the result as it stands, labelled so; what has no verdict yet counts as not covered."""
        with self._ledger.alone() as standing:
            if not standing.is_revealed:
                self._ledger.reveal(standing, is_early=not standing.is_primary_done())
        self._ledger.write_log()

    def retry(self, reason: str) -> None:
        """Let `run` ask again what failed for this reason."""
        if reason not in self.failed():
            raise RequestError(f"Nothing of this comparison failed as {reason[:40]!r}.")
        self._ledger.add_alone("retry", reason=reason)

    def results(self) -> Results | None:
        """What it came to, placebos apart; None until all is revealed: there is no running result."""
        return self._ledger.results()

    def decided(self, by: Decider) -> list[Decided]:
        """The pairs that somebody preferred one response of, for use as preference data; none before the end."""
        standing = self._ledger.read()
        found = []
        for item in standing.real_items() if standing.is_revealed else ():
            outcome = standing.outcome(item.id, by)
            if outcome in (Outcome.WIN, Outcome.LOSS):
                base, tuned = standing.pair(item.id)
                chosen, rejected = (tuned, base) if outcome is Outcome.WIN else (base, tuned)
                prompt = standing.prompts[item.prompt_id]
                found.append(Decided(prompt, chosen.text, rejected.text, chosen.is_cut))
        return found

    def check_unchanged(self) -> None:
        """AdapterError where the adapter of this name is no longer the one that was compared."""
        plan = self.plan
        if adapter_seal(plan.adapter) != plan.adapter_seal:
            raise AdapterError(
                f"The adapter '{plan.adapter}' is not the one that this comparison was begun with: it was trained "
                "anew, or is gone. Start a new comparison."
            )

    def run(
        self,
        answer: Answerer,
        judge: Judge | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
        on_progress: Progress = lambda phase, done, total: None,
        drift: Drifter | None = None,
    ) -> None:
        """Answer and judge whatever is not yet; a worker thread's body. Returns early where stopped.

        Errors of the engine pass through, JudgeError too; all that came before them is in the journal.
        """
        Work(self._ledger, answer, judge, is_stopped, on_progress, drift).run()


def list_comparisons() -> list[Path]:
    """The journals of all comparisons, newest first."""
    return sorted(logs_dir().glob(f"{STEM}_*.jsonl"), key=lambda path: path.name, reverse=True)


def read_start(journal: Path) -> dict[str, Any]:
    """What a comparison set out to do, and nothing else of its journal; empty where that cannot be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError), journal.open(encoding="utf-8") as file:
        record = json.loads(file.readline())
        return record if isinstance(record, dict) else {}
    return {}


def adapter_seal(adapter: str) -> str:
    """SHA-256 of the adapter's manifest, which names the hash of every file of it; nothing where there is none."""
    with contextlib.suppress(OSError, PlaygroundError):
        return hashlib.sha256((adapter_dir(adapter) / "manifest.json").read_bytes()).hexdigest()
    return ""


def _held_out(adapter: str) -> dict[str, Any]:
    """What the adapter's run measured on its held-out pairs; nothing where its run is gone or held none out."""
    with contextlib.suppress(PlaygroundError):
        result = read_run(adapter).result
        return {name: result[name] for name in HELD_OUT if name in result}
    return {}


def _count_earlier(prompts: Sequence[Prompt]) -> int:
    """Comparisons begun before on the same prompts, whatever the adapter: each is a further try."""
    return [read_start(path).get("digest") for path in list_comparisons()].count(digest(prompts))


def _answered_item(standing: Standing, item_id: object) -> Item:
    item = standing.items.get(item_id) if isinstance(item_id, str) else None
    if item is None:
        raise RequestError(f"This comparison has no pair named {str(item_id)[:40]!r}.")
    if not standing.is_answered(item.id):
        raise RequestError(f"Pair {item.id} is not answered yet. Wait for both responses.")
    return item


def _check_vote(standing: Standing, item_id: object) -> None:
    if standing.started.is_judge_only:
        raise RequestError("In this comparison only the judge decides; start one with votes to vote yourself.")
    item = _answered_item(standing, item_id)
    if standing.is_revealed:
        raise RequestError("The sides are shown already, so a vote would no longer be blind. Start a new comparison.")
    if item.id in standing.votes:
        raise RequestError(f"Pair {item.id} already has its vote. Undo takes back the last one.")
