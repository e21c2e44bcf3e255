"""Blind comparisons: base and tuned answer the same prompts, a person and a judge say which is better.

The journal is the truth: whatever was asked, ruled or voted is in it at once, and a comparison that is opened again
goes on where it stood. Knows nothing of Gradio, Gemini or the GPU: it is handed an `answer` function and a judge.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from core.blind import HumanVerdict, Side, commit, draw_nonce, draw_sides, seal
from core.client import Response, Turn
from core.errors import Cancelled, JudgeError, RequestError
from core.export import Row
from core.journal import Journal
from core.judge import BASE, PROMPT_VERSION, SCHEMA_VERSION, TUNED, Judge, Ruling
from core.messages import ask
from core.normalise import normalise
from core.paths import logs_dir, write_text
from core.prompts import Prompt, check_prompts, read_prompts
from core.report import Summary, summarise, write_report
from core.settings import COMPARISON_BATCH_PROMPTS, Decoding
from core.standing import Plan, Standing
from core.stats import Outcome, Tally

__all__ = [
    "Card", "Comparison", "HumanVerdict", "Outcome", "Plan", "Prompt", "Row", "Side", "Summary", "Tally",
    "list_comparisons", "read_prompts",
]  # fmt: skip

STEM = "model_comparison"

Answerer = Callable[[list[Turn], Decoding], list[Response]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Card:
    """All that a person sees of a prompt before voting."""

    prompt_id: str
    category: str
    prompt: str
    response_a: str
    response_b: str


class Comparison:
    """One comparison, by its journal. Safe to use from several threads, and to open more than once."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._standing = Standing()

    @classmethod
    def create(
        cls,
        adapter: str,
        base_model: str,
        prompts: Iterable[Prompt],
        decoding: Decoding,
        judge_model: str | None = None,
        seed: int = 0,
        is_judge_only: bool = False,
    ) -> "Comparison":
        """Begin a comparison: sides are drawn and committed to before anything is asked."""
        checked = tuple(check_prompts(prompts))
        nonce, now = draw_nonce(), datetime.now().astimezone()
        commitment = commit(nonce, draw_sides(nonce, [prompt.id for prompt in checked]))
        plan = Plan(
            adapter, base_model, judge_model or "", checked, decoding, seed, is_judge_only,
            now.isoformat(timespec="seconds"), commitment,
        )  # fmt: skip
        comparison = cls(Journal.create(logs_dir(), f"{STEM}_{now:%Y%m%d_%H%M%S}"))
        with comparison._alone() as standing:
            comparison._add(standing, plan.as_record())
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
        if standing.plan is None or not standing.sides:
            raise RequestError(f"{path} is no comparison's journal, or its beginning is damaged. Start a new one.")
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
        """Every vote is in (or, where nobody votes, every verdict): sides and nonce are out."""
        return self._read().is_revealed

    @property
    def nonce(self) -> str:
        """In hex, once all is revealed: with it anyone can check the commitment. Nothing before."""
        standing = self._read()
        return standing.nonce.hex() if standing.is_revealed else ""

    def progress(self) -> tuple[int, int, int, int]:
        """How many prompts are answered, judged and voted on, and how many there are."""
        standing = self._read()
        ids = [prompt.id for prompt in standing.started.prompts]
        return sum(map(standing.is_answered, ids)), sum(map(standing.is_judged, ids)), len(standing.votes), len(ids)

    def cards(self, index: int) -> Card:
        """The prompt at `index` with both responses by side; RequestError until both are there."""
        standing = self._read()
        prompts = standing.started.prompts
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(prompts):
            raise RequestError(f"There is no prompt {index!r}: they are numbered from 0 to {len(prompts) - 1}.")
        prompt = prompts[index]
        if not standing.is_answered(prompt.id):
            raise RequestError(f"The prompt '{prompt.id}' is not answered yet. Wait for both responses.")
        text_a, text_b = (standing.answer_on(prompt.id, side).text for side in Side)
        return Card(prompt.id, prompt.category, prompt.prompt, text_a, text_b)

    def pending(self) -> list[str]:
        """The ids of the prompts that wait for a vote, both responses being there."""
        standing = self._read()
        if standing.started.is_judge_only:
            return []
        ids = (prompt.id for prompt in standing.started.prompts)
        return [prompt_id for prompt_id in ids if standing.is_answered(prompt_id) and prompt_id not in standing.votes]

    def vote(self, prompt_id: str, verdict: HumanVerdict | str) -> None:
        """Store a vote at once. The last one opens the seal."""
        if verdict not in list(HumanVerdict):
            raise RequestError(f"A vote is one of {', '.join(HumanVerdict)}, not {str(verdict)[:40]!r}.")
        with self._alone() as standing:
            _check_vote(standing, prompt_id)
            self._add(standing, {"kind": "vote", "prompt_id": prompt_id, "verdict": str(verdict), "at": _now()})
            if len(standing.votes) == len(standing.started.prompts):
                self._reveal(standing)
        self._write_log()

    def undo(self) -> str:
        """Take the last vote back and say whose prompt's it was; RequestError once the sides are out."""
        with self._alone() as standing:
            if standing.is_revealed:
                raise RequestError("Every vote is in and the sides are shown, so votes can no longer be taken back.")
            if not standing.votes:
                raise RequestError("There is no vote to take back.")
            prompt_id = list(standing.votes)[-1]
            self._add(standing, {"kind": "undo", "prompt_id": prompt_id, "at": _now()})
        self._write_log()
        return prompt_id

    def results(self, by: str = "human") -> Tally:
        """What the open prompts add up to by the person's votes (`human`) or the judge's verdicts (`judge`)."""
        if by not in ("human", "judge"):
            raise RequestError(f"Results are by 'human' or by 'judge', not by {by!r}.")
        return Tally.of(self._read().outcomes(by))

    def rows(self) -> list[Row]:
        """One row a prompt, in their order; until a prompt is open, its responses, sides and verdicts are blank."""
        standing = self._read()
        return [standing.row(prompt) for prompt in standing.started.prompts]

    def summary(self) -> Summary:
        """Strengths and weaknesses by the judge's scores and reasons, over the open prompts."""
        return summarise(self._read())

    def run(
        self,
        answer: Answerer,
        judge: Judge | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
        on_progress: Progress = lambda phase, done, total: None,
    ) -> None:
        """Answer and judge whatever is not yet; a worker thread's body. Returns early where stopped.

        Errors of the engine pass through, JudgeError too; all that came before them is in the journal.
        """
        try:
            with contextlib.suppress(Cancelled):
                self._answer_all(answer, is_stopped, on_progress)
                if judge is not None:
                    self._judge_all(judge, is_stopped, on_progress)
                if not is_stopped():
                    self._complete(judge)
        finally:
            self._write_log()

    def _answer_all(self, answer: Answerer, is_stopped: Callable[[], bool], on_progress: Progress) -> None:
        plan, standing = self.plan, self._read()
        waiting = [place for place, prompt in enumerate(plan.prompts) if not standing.is_answered(prompt.id)]
        total = len(plan.prompts)
        on_progress("answering", total - len(waiting), total)
        for start in range(0, len(waiting), COMPARISON_BATCH_PROMPTS):
            if is_stopped():
                return
            places = waiting[start : start + COMPARISON_BATCH_PROMPTS]
            self._answer_batch(answer, places)
            on_progress("answering", total - len(waiting) + start + len(places), total)

    def _answer_batch(self, answer: Answerer, places: list[int]) -> None:
        plan = self.plan
        prompts = [plan.prompts[place] for place in places]
        turns = [Turn(who, ask(prompt.prompt)) for prompt in prompts for who in (BASE, plan.adapter)]
        # By the batch's place, so that batches differ and one asked again after a cut-off is drawn alike.
        responses = answer(turns, replace(plan.decoding, seed=plan.seed + places[0]))
        named = [(prompt.id, who) for prompt in prompts for who in (BASE, TUNED)]
        with self._alone() as standing:
            for (prompt_id, contender), response in zip(named, responses, strict=True):
                self._add(standing, _response_record(prompt_id, contender, response))
        self._write_log()

    def _judge_all(self, judge: Judge, is_stopped: Callable[[], bool], on_progress: Progress) -> None:
        standing = self._read()
        prompts = standing.started.prompts
        for done, prompt in enumerate(prompts):
            on_progress("judging", done, len(prompts))
            if is_stopped():
                return
            if standing.is_answered(prompt.id) and not standing.is_judged(prompt.id):
                self._judge_one(judge, prompt, standing, is_stopped)
        on_progress("judging", len(prompts), len(prompts))

    def _judge_one(self, judge: Judge, prompt: Prompt, standing: Standing, is_stopped: Callable[[], bool]) -> None:
        texts = standing.answers[prompt.id]
        known = dict(standing.rulings.get(prompt.id, {}))

        def keep(order: int, ruling: Ruling) -> None:
            with self._alone() as now:
                self._add(now, _ruling_record(prompt.id, order, ruling))

        try:
            judge.judge_pair(prompt, texts[BASE].text, texts[TUNED].text, is_stopped, known, keep)
        except JudgeError as error:
            with self._alone() as now:
                self._add(now, {"kind": "judge_stopped", "reason": str(error), "at": _now()})
            raise

    def _complete(self, judge: Judge | None) -> None:
        """Where nobody votes, the last verdict opens the seal."""
        with self._alone() as standing:
            plan = standing.started
            is_judged = judge is None or all(standing.is_judged(prompt.id) for prompt in plan.prompts)
            if plan.is_judge_only and is_judged and not standing.is_revealed:
                self._reveal(standing)

    def _reveal(self, standing: Standing) -> None:
        self._add(standing, {"kind": "revealed", "nonce": standing.nonce.hex(), "at": _now()})

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
            write_text(self.log_path, write_report(self._read()))


def list_comparisons() -> list[Path]:
    """The journals of all comparisons, newest first."""
    return sorted(logs_dir().glob(f"{STEM}_*.jsonl"), key=lambda path: path.name, reverse=True)


def _check_vote(standing: Standing, prompt_id: object) -> None:
    plan = standing.started
    if plan.is_judge_only:
        raise RequestError("In this comparison only the judge decides; start one with votes to vote yourself.")
    if prompt_id not in [prompt.id for prompt in plan.prompts]:
        raise RequestError(f"This comparison has no prompt named {str(prompt_id)[:40]!r}.")
    if not standing.is_answered(str(prompt_id)):
        raise RequestError(f"The prompt '{prompt_id}' is not answered yet. Wait for both responses.")
    if prompt_id in standing.votes:
        raise RequestError(f"The prompt '{prompt_id}' already has its vote. Undo takes back the last one.")


def _response_record(prompt_id: str, contender: str, response: Response) -> dict[str, object]:
    return {
        "kind": "response", "prompt_id": prompt_id, "contender": contender, "raw": response.text,
        "text": normalise(response.text), "num_tokens": response.num_tokens, "is_cut": response.is_cut,
        "note": response.note, "at": _now(),
    }  # fmt: skip


def _ruling_record(prompt_id: str, order: int, ruling: Ruling) -> dict[str, object]:
    return {
        "kind": "ruling", "prompt_id": prompt_id, "order": order, **asdict(ruling),
        "prompt_version": PROMPT_VERSION, "schema_version": SCHEMA_VERSION, "at": _now(),
    }  # fmt: skip


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
