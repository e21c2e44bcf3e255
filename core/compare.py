"""Blind comparisons: base and tuned answer the same prompts, a person and a judge say which is better.

The journal is the truth: whatever was asked, ruled or voted is in it at once, and a comparison that is opened again
goes on where it stood. Knows nothing of Gradio, Gemini or the GPU: it is handed an `answer` function and a judge.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from core.blind import HumanVerdict, Item, Side, commit, deal, draw_nonce, seal
from core.client import Response, Turn
from core.compare_log import write_log
from core.errors import AdapterError, Cancelled, JudgeError, PlaygroundError, RequestError
from core.journal import Journal
from core.judge import BASE, TUNED, Judge, Ruling
from core.messages import Conversation
from core.normalise import normalise
from core.paths import logs_dir, write_text
from core.prompt_sets import digest, trained_on
from core.prompts import Prompt, check_prompts
from core.results import Results, assess
from core.runs import adapter_dir
from core.settings import COMPARISON_BATCH_ITEMS, JUDGE, Decoding
from core.standing import Answer, Decider, Plan, Standing
from core.vote_pairs import Decided

STEM = "model_comparison"
# Another draw of the same prompts: further apart than the items of any comparison.
SAMPLE_STRIDE = 1_000_003

Answerer = Callable[[list[Turn], Decoding], list[Response]]
Drifter = Callable[[Sequence[tuple[Conversation, str]]], Sequence[float]]
Progress = Callable[[str, int, int], None]


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
        self._journal = journal
        self._standing = Standing()
        self._assessed: tuple[int, Results] | None = None

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
            raise RequestError("At temperature 0 every draw is the same. Take one sample a prompt, or warm it up.")
        nonce, now = draw_nonce(), datetime.now().astimezone()
        num_placebos = min(num_placebos, len(checked))
        plan = Plan(
            adapter, adapter_seal(adapter), base_model, judge_model, checked, decoding, seed, samples, num_placebos,
            primary, is_judge_only, _count_earlier(checked), tuple(trained_on(adapter, checked)),
            now.isoformat(timespec="seconds"),
            commit(nonce, deal(nonce, [prompt.id for prompt in checked], samples, num_placebos)),
        )  # fmt: skip
        comparison = cls(Journal.create(logs_dir(), f"{STEM}_{now:%Y%m%d_%H%M%S}"))
        with comparison._alone() as standing:
            comparison._add(standing, plan.as_record() | {"digest": digest(checked)})
            comparison._add(standing, {"kind": "sealed", "box": seal(nonce)})
        comparison._write_log()
        return comparison

    @classmethod
    def open(cls, path: Path) -> "Comparison":
        """The comparison as its journal left it; RequestError where the file is none."""
        if not path.is_file():
            raise RequestError(f"There is no comparison at {path}. Choose one of the list, or start a new one.")
        comparison = cls(Journal(path))
        standing = comparison._read()
        if standing.plan is None or not standing.items:
            raise RequestError(f"{path} is no comparison's journal of this version, or its beginning is damaged.")
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
        return self._journal.path

    @property
    def log_path(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def plan(self) -> Plan:
        return self._read().started

    @property
    def judge_stopped(self) -> str:
        """The sentence with which the judge gave up, or nothing."""
        return self._read().judge_stopped

    @property
    def is_complete(self) -> bool:
        """Every verdict is in, or the person ended it early: sides and nonce are out."""
        return self._read().is_revealed

    def counts(self) -> Counts:
        standing = self._read()
        answered, judged = (sum(map(test, standing.items)) for test in (standing.is_answered, standing.is_judged))
        return Counts(answered, judged, len(standing.votes), len(standing.items))

    def card(self, item_id: str) -> Card:
        """Both responses of an item by side; RequestError until they are there."""
        standing = self._read()
        item = _answered_item(standing, item_id)
        prompt = standing.prompts[item.prompt_id]
        texts = (standing.answer_on(item.id, side).text for side in Side)
        return Card(item.id, list(standing.items).index(item.id) + 1, prompt.category, prompt.prompt, *texts)

    def pending(self) -> list[str]:
        """The ids of the items that wait for a vote, both responses being there."""
        standing = self._read()
        if standing.started.is_judge_only or standing.is_revealed:
            return []
        return [
            item_id for item_id in standing.items if standing.is_answered(item_id) and item_id not in standing.votes
        ]

    def failed(self) -> dict[str, int]:
        """Why items lack a verdict of the judge, with how many each, so that each reason can be tried again."""
        standing = self._read()
        if not standing.started.judge_model:
            return {}
        found: dict[str, int] = {}
        for item_id in filter(standing.is_answered, standing.items):
            if standing.is_judged(item_id) or standing.judge_stopped:
                result = standing.judge_result(item_id)
                for reason in {order.partition(":")[2] for order in (result.order_1, result.order_2)} - {""}:
                    found[reason] = found.get(reason, 0) + 1
        return found

    def vote(self, item_id: str, verdict: HumanVerdict | str) -> None:
        """Store a vote at once. The last one opens the seal, unless the judge is still at it."""
        if verdict not in list(HumanVerdict):
            raise RequestError(f"A vote is one of {', '.join(HumanVerdict)}, not {str(verdict)[:40]!r}.")
        with self._alone() as standing:
            _check_vote(standing, item_id)
            self._add(standing, {"kind": "vote", "item": item_id, "verdict": str(verdict), "at": _now()})
            self._reveal_if_done(standing)
        self._write_log()

    def undo(self) -> str:
        """Take the last vote back and say which item's it was; RequestError once the sides are out."""
        with self._alone() as standing:
            if standing.is_revealed:
                raise RequestError("Every vote is in and the sides are shown, so votes can no longer be taken back.")
            if not standing.votes:
                raise RequestError("There is no vote to take back.")
            item_id = list(standing.votes)[-1]
            self._add(standing, {"kind": "undo", "item": item_id, "at": _now()})
        self._write_log()
        return item_id

    def end_early(self) -> None:
        """Show the result as it stands, labelled so; what has no verdict yet counts as not covered."""
        with self._alone() as standing:
            if not standing.is_revealed:
                self._reveal(standing, is_early=not standing.is_done())
        self._write_log()

    def retry(self, reason: str) -> None:
        """Let `run` ask again what failed for this reason."""
        if reason not in self.failed():
            raise RequestError(f"Nothing of this comparison failed as {reason[:40]!r}.")
        with self._alone() as standing:
            self._add(standing, {"kind": "retry", "reason": reason, "at": _now()})

    def results(self) -> Results | None:
        """What it came to, placebos apart; None until all is revealed: there is no running result."""
        with self._journal.lock:
            standing = self._read()
            if not standing.is_revealed:
                return None
            # A page asks for them again and again, and they stay what they are until something is added.
            if self._assessed is None or self._assessed[0] != self._journal.offset:
                self._assessed = (self._journal.offset, assess(standing))
            return self._assessed[1]

    def decided(self, by: Decider) -> list[Decided]:
        """The pairs that somebody preferred one response of, for use as preference data; none before the end."""
        standing = self._read()
        found = []
        for item in standing.real_items() if standing.is_revealed else ():
            base, tuned = (standing.text(item.id, who) for who in (BASE, TUNED))
            prompt, outcome = standing.prompts[item.prompt_id], standing.outcome(item.id, by)
            found.append(Decided.of(prompt, base, tuned, outcome, by.value, self.path.stem))
        return [decided for decided in found if decided is not None]

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
        try:
            with contextlib.suppress(Cancelled):
                self._answer_all(answer, is_stopped, on_progress)
                if drift is not None and not is_stopped():
                    self._measure_drift(drift)
                if judge is not None and not is_stopped():
                    self._judge_all(judge, is_stopped, on_progress)
        finally:
            with self._alone() as standing:
                self._reveal_if_done(standing)
            self._write_log()

    def _answer_all(self, answer: Answerer, is_stopped: Callable[[], bool], on_progress: Progress) -> None:
        standing = self._read()
        if standing.is_revealed:
            # What was ended early stays as it is.
            return
        total = len(standing.items)
        waiting = [item for item in standing.items.values() if not standing.is_answered(item.id)]
        on_progress("answering", total - len(waiting), total)
        for sample in range(standing.started.samples):
            of_sample = [item for item in waiting if item.sample == sample]
            for start in range(0, len(of_sample), COMPARISON_BATCH_ITEMS):
                if is_stopped():
                    return
                self._answer_batch(answer, of_sample[start : start + COMPARISON_BATCH_ITEMS])
                on_progress("answering", self.counts().answered, total)

    def _answer_batch(self, answer: Answerer, items: list[Item]) -> None:
        standing = self._read()
        plan, prompts = standing.started, standing.prompts
        asked = [(item, slot, _contender(plan, item, slot)) for item in items for slot in (BASE, TUNED)]
        turns = [Turn(who, prompts[item.prompt_id].conversation) for item, _, who in asked]
        # By the batch's place, so that batches differ and one asked again after a cut-off is drawn alike.
        seed = (plan.seed + SAMPLE_STRIDE * items[0].sample + int(items[0].id)) % 2**31
        responses = answer(turns, replace(plan.decoding, seed=seed))
        with self._alone() as now:
            for (item, slot, who), response in zip(asked, responses, strict=True):
                self._add(now, _response_record(item, slot, who, response, seed))
        self._write_log()

    def _measure_drift(self, drift: Drifter) -> None:
        """How far tuned is from base on base's own responses; once, and without it the comparison goes on."""
        standing = self._read()
        items = [item for item in standing.real_items() if item.sample == 0 and standing.is_answered(item.id)]
        if standing.drift or not items:
            return
        asked = [(standing.prompts[item.prompt_id].conversation, standing.answers[item.id][BASE].raw) for item in items]
        values = dict(zip([item.id for item in items], drift(asked), strict=False))
        with self._alone() as now:
            self._add(now, {"kind": "drift", "values": values, "at": _now()})

    def _judge_all(self, judge: Judge, is_stopped: Callable[[], bool], on_progress: Progress) -> None:
        """Several pairs at once; the judge keeps the pace. The first failure that concerns all of them ends it."""
        standing = self._read()
        waiting = [i for i in standing.items.values() if standing.is_answered(i.id) and not standing.is_judged(i.id)]
        failed: list[JudgeError] = []

        def rule(item: Item) -> None:
            if is_stopped() or failed:
                return
            try:
                with contextlib.suppress(Cancelled):
                    self._judge_one(judge, item, standing, lambda: is_stopped() or bool(failed))
            except JudgeError as error:
                failed.append(error)
            on_progress("judging", self.counts().judged, len(standing.items))

        on_progress("judging", self.counts().judged, len(standing.items))
        with ThreadPoolExecutor(int(JUDGE["judge_threads"].default), thread_name_prefix="judge") as pool:
            # One alone to begin with: a key that is refused costs one call and not one a thread.
            list(map(rule, waiting[:1]))
            list(pool.map(rule, waiting[1:]))
        if failed:
            stopped = {"kind": "judge_stopped", "sentence": str(failed[0]), "reason": failed[0].reason, "at": _now()}
            with self._alone() as now:
                self._add(now, stopped)
            raise failed[0]

    def _judge_one(self, judge: Judge, item: Item, standing: Standing, is_stopped: Callable[[], bool]) -> None:
        texts = standing.answers[item.id]
        known = dict(standing.rulings.get(item.id, {}))

        def keep(order: int, ruling: Ruling) -> None:
            with self._alone() as now:
                self._add(now, {"kind": "ruling", "item": item.id, "order": order, **asdict(ruling), "at": _now()})

        judge.judge_pair(
            standing.prompts[item.prompt_id], texts[BASE].text, texts[TUNED].text, is_stopped, known, keep
        )  # fmt: skip

    def _reveal_if_done(self, standing: Standing) -> None:
        if standing.is_done() and not standing.is_revealed:
            self._reveal(standing, is_early=False)

    def _reveal(self, standing: Standing, is_early: bool) -> None:
        nonce = standing.nonce.hex()
        self._add(standing, {"kind": "revealed", "nonce": nonce, "is_early": is_early, "at": _now()})

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Standing]:
        """The standing with all that others have added, and nobody adding more meanwhile."""
        with self._journal.alone():
            self._standing.apply(self._journal.read_new())
            yield self._standing

    def _add(self, standing: Standing, record: dict[str, object]) -> None:
        self._journal.append(record)
        standing.apply(self._journal.read_new())

    def _read(self) -> Standing:
        """A copy of the standing as of now, so that what is worked out from it fits together."""
        with self._journal.lock:
            self._standing.apply(self._journal.read_new())
            return self._standing.copy()

    def _write_log(self) -> None:
        # The journal holds everything: a log that cannot be written now is written with the next change.
        with contextlib.suppress(OSError):
            write_text(self.log_path, write_log(self._read()))


def list_comparisons() -> list[Path]:
    """The journals of all comparisons, newest first."""
    return sorted(logs_dir().glob(f"{STEM}_*.jsonl"), key=lambda path: path.name, reverse=True)


def adapter_seal(adapter: str) -> str:
    """SHA-256 of the adapter's manifest, which names the hash of every file of it; nothing where there is none."""
    with contextlib.suppress(OSError, PlaygroundError):
        return hashlib.sha256((adapter_dir(adapter) / "manifest.json").read_bytes()).hexdigest()
    return ""


def _count_earlier(prompts: Sequence[Prompt]) -> int:
    """Comparisons begun before on the same prompts, whatever the adapter: each is a further try."""
    return [_digest_of(path) for path in list_comparisons()].count(digest(prompts))


def _digest_of(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, AttributeError), path.open(encoding="utf-8") as file:
        return str(json.loads(file.readline()).get("digest", ""))
    return ""


def _contender(plan: Plan, item: Item, slot: str) -> str:
    return plan.adapter if slot == TUNED and not item.is_placebo else BASE


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


def _response_record(item: Item, slot: str, contender: str, response: Response, seed: int) -> dict[str, object]:
    cleaned = normalise(response.text)
    answer = Answer(
        response.text, cleaned.text, response.num_tokens, response.is_cut, response.note, cleaned.findings
    )  # fmt: skip
    return {
        "kind": "response", "item": item.id, "slot": slot, "contender": contender, **asdict(answer), "seed": seed,
        "at": _now(),
    }  # fmt: skip


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
