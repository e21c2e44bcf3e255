"""A comparison at work: whatever is not answered yet is answered, in few batches, and judged, several pairs at once.

Every response and ruling is on disk before the next is asked for. Handed the engine and the judge as functions.
"""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from core.blind import Item
from core.errors import Cancelled, JudgeError
from core.judge import BASE, TUNED, Judge, Ruling, ruling_keys
from core.ledger import Ledger
from core.messages import Conversation
from core.normalise import Answer, normalise
from core.settings import COMPARISON_BATCH_ITEMS, JUDGE, Decoding
from core.standing import Plan, Standing
from core.wire import Response, Turn

# Another draw of the same prompts: further apart than the items of any comparison.
SAMPLE_STRIDE = 1_000_003

Answerer = Callable[[list[Turn], Decoding], list[Response]]
Drifter = Callable[[Sequence[tuple[Conversation, str]]], Sequence[float]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Work:
    """What a comparison is run with; `is_stopped` is asked between batches and verdicts."""

    ledger: Ledger
    answer: Answerer
    judge: Judge | None
    is_stopped: Callable[[], bool]
    on_progress: Progress
    drift: Drifter | None

    def run(self) -> None:
        """To the end, or to a stop. Errors of the engine and the judge's own end pass through."""
        try:
            with contextlib.suppress(Cancelled):
                self._answer_all()
                if self.drift is not None and not self.is_stopped():
                    self._measure_drift(self.drift)
                if self.judge is not None and not self.is_stopped():
                    self._judge_all(self.judge)
        finally:
            with self.ledger.alone() as standing:
                self.ledger.reveal_if_done(standing)
            self.ledger.write_log()

    def _answer_all(self) -> None:
        standing = self.ledger.read()
        if standing.is_revealed:
            # What was ended early stays as it is.
            return
        total = len(standing.items)
        waiting = [item for item in standing.items.values() if not standing.is_answered(item.id)]
        self.on_progress("answering", total - len(waiting), total)
        for sample in range(standing.started.samples):
            of_sample = [item for item in waiting if item.sample == sample]
            for start in range(0, len(of_sample), COMPARISON_BATCH_ITEMS):
                if self.is_stopped():
                    return
                self._answer_batch(of_sample[start : start + COMPARISON_BATCH_ITEMS])
                self.on_progress("answering", sum(map(self.ledger.read().is_answered, standing.items)), total)

    def _answer_batch(self, items: list[Item]) -> None:
        standing = self.ledger.read()
        plan, prompts = standing.started, standing.prompts
        asked = [(item, slot, _contender(plan, item, slot)) for item in items for slot in (BASE, TUNED)]
        turns = [Turn(who, prompts[item.prompt_id].conversation) for item, _, who in asked]
        # By the batch's place, so that batches differ and one asked again after a cut-off is drawn alike.
        seed = (plan.seed + SAMPLE_STRIDE * items[0].sample + int(items[0].id)) % 2**31
        responses = self.answer(turns, replace(plan.decoding, seed=seed))
        with self.ledger.alone() as now:
            for (item, slot, who), response in zip(asked, responses, strict=True):
                kept = asdict(_cleaned(response))
                self.ledger.add(now, "response", item=item.id, slot=slot, contender=who, **kept, seed=seed)
        self.ledger.write_log()

    def _measure_drift(self, drift: Drifter) -> None:
        """How far tuned is from base on base's own responses; once, and without it the comparison goes on."""
        standing = self.ledger.read()
        items = [item for item in standing.real_items() if item.sample == 0 and standing.is_answered(item.id)]
        if standing.drift or not items:
            return
        asked = [(standing.prompts[item.prompt_id].conversation, standing.answers[item.id][BASE].raw) for item in items]
        self.ledger.add_alone("drift", values=list(drift(asked)))

    def _judge_all(self, judge: Judge) -> None:
        """Several pairs at once; the judge keeps the pace. The first failure that concerns all of them ends it."""
        standing = self.ledger.read()
        answered = filter(lambda item: standing.is_answered(item.id), standing.items.values())
        waiting = [item for item in answered if not _is_settled(judge, standing, item)]
        failed: list[JudgeError] = []

        def rule(item: Item) -> None:
            if self.is_stopped() or failed:
                return
            try:
                with contextlib.suppress(Cancelled):
                    self._judge_one(judge, item, standing)
            except JudgeError as error:
                failed.append(error)
            tell()

        def tell() -> None:
            self.on_progress("judging", sum(map(self.ledger.read().is_judged, standing.items)), len(standing.items))

        tell()
        with ThreadPoolExecutor(int(JUDGE["judge_threads"].default), thread_name_prefix="judge") as pool:
            # One alone to begin with: a key that is refused costs one call and not one a thread.
            list(map(rule, waiting[:1]))
            list(pool.map(rule, waiting[1:]))
        if failed:
            self.ledger.add_alone("judge_stopped", sentence=str(failed[0]), reason=failed[0].reason)
            raise failed[0]

    def _judge_one(self, judge: Judge, item: Item, standing: Standing) -> None:
        def keep(order: int, ruling: Ruling) -> None:
            self.ledger.add_alone("ruling", item=item.id, order=order, **asdict(ruling))

        base, tuned = standing.pair(item.id)
        known = standing.rulings.get(item.id, {})
        judge.judge_pair(standing.prompts[item.prompt_id], base.text, tuned.text, self.is_stopped, known, keep)


def _is_settled(judge: Judge, standing: Standing, item: Item) -> bool:
    """Both orders are ruled on, and what was asked is what would be asked today."""
    rulings = standing.rulings.get(item.id, {})
    base, tuned = standing.pair(item.id)
    keys = ruling_keys(judge.model, standing.prompts[item.prompt_id], base.text, tuned.text)
    return all(order in rulings and rulings[order].key == key for order, key in keys.items())


def _contender(plan: Plan, item: Item, slot: str) -> str:
    return plan.adapter if slot == TUNED and not item.is_placebo else BASE


def _cleaned(response: Response) -> Answer:
    text, findings = normalise(response.text)
    return Answer(response.text, text, response.num_tokens, response.is_cut, response.note, findings)
