"""The first part of a comparison: which prompts, who decides, how responses are drawn, and Start.

Parses what was chosen and hands it to the worker; knows nothing of votes or results.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from core import runs
from core.compare import Comparison, Prompt, read_prompts
from core.errors import BusyError, JudgeError, RequestError
from core.judge import Judge, load_judge
from core.paths import ASSETS
from core.redact import api_key
from core.settings import Decoding
from core.ui import compare_views as views
from core.ui import sampling
from core.ui.chat_views import why_not_ready
from core.ui.compare_worker import ComparisonWorker
from core.ui.notices import shows_errors
from core.ui.parts import QUIET, Part
from core.ui.views import as_text

if TYPE_CHECKING:
    from core.client import EngineClient

GIVEN = ASSETS / "prompts.json"
KEY = "GEMINI_API_KEY"
VOTE, JUDGE_ONLY = "vote", "judge"
# Seeds are drawn small, so that they can be read out and typed again.
SEEDS = 1_000_000


class CompareSetup:
    def __init__(self, client: "EngineClient", worker: ComparisonWorker) -> None:
        self.client = client
        self.worker = worker

    def build(self) -> None:
        given = read_prompts(GIVEN)
        self.known = gr.State(tuple(given))
        self.num_prompts = gr.State(len(given))
        with gr.Column(elem_classes="card"):
            with gr.Row(equal_height=True, elem_id="compare-choice"):
                self.adapter = gr.Dropdown(
                    [], label="Adapter, against its base", interactive=True, elem_id="compare-adapter", scale=2
                )
                self.mode = gr.Radio(
                    [("I vote, blind", VOTE), ("Judge only: Gemini decides", JUDGE_ONLY)],
                    value=VOTE, label="Who decides", elem_id="compare-mode", scale=3,
                )  # fmt: skip
                self.start_button = gr.Button(
                    "Start", variant="primary", elem_id="compare-start", interactive=False, scale=2
                )
            self.plan = gr.Markdown("", elem_id="compare-plan")
            with gr.Row():
                with gr.Accordion("Prompts: look, edit, load your own", open=False, elem_id="compare-prompts"):
                    self._build_prompts(given)
                with gr.Accordion("Sampling", open=False, elem_id="compare-sampling"):
                    self.sampling = sampling.sliders("compare")
        self.parts = [
            Part(self.adapter, lambda value: gr.update(choices=list(value[0]), value=value[1])),
            Part(self.plan, lambda value: value),
            Part(self.start_button, _start_update),
        ]

    def _build_prompts(self, given: Sequence[Prompt]) -> None:
        self.table = gr.Dataframe(
            views.prompt_table(given), headers=["Category", "Prompt"], datatype="str", type="array", interactive=True,
            column_count=2, column_widths=["30%", "70%"], wrap=True, max_height=420, show_label=False, buttons=[],
            elem_id="compare-table", elem_classes="words-table",
        )  # fmt: skip
        with gr.Row():
            self.upload = gr.UploadButton(
                "Load a prompts file", file_types=[".json"], size="sm", elem_id="compare-upload"
            )
            self.reset = gr.Button("Back to the five given", size="sm", elem_id="compare-reset")

    def wire(self) -> None:
        loaded = [self.table, self.known, self.num_prompts]
        self.upload.upload(self.load, self.upload, loaded, **QUIET)
        self.reset.click(self.load_given, None, loaded, **QUIET)
        self.table.change(self.count, self.table, self.num_prompts, **QUIET)

    def values(
        self, adapters: Sequence[str], adapter: str | None, mode: str, num_prompts: int, is_unfinished: bool
    ) -> list[Any]:
        """What the parts show, in their order; `is_unfinished` where a new comparison would leave one behind."""
        key_problem, has_key = _key()
        is_judge_only = mode == JUDGE_ONLY
        gemini = as_text(key_problem) if key_problem else views.gemini_sentence(has_key, is_judge_only)
        plan = views.plan_sentence(num_prompts, adapter, is_judge_only)
        start = (self._why_not(adapter, mode, has_key), is_unfinished)
        return [(tuple(adapters), adapter), f"{plan}\n\n{gemini}", start]

    def _why_not(self, adapter: str | None, mode: str, has_key: bool) -> str:
        if self.worker.is_running:
            return "A comparison is going on"
        if not adapter:
            return "Train an adapter first"
        if mode == JUDGE_ONLY and not has_key:
            return "Judge only needs a Gemini key"
        return why_not_ready(self.client.state())

    @shows_errors
    def load(self, file: str) -> Any:
        path = Path(file)
        try:
            return _loaded(read_prompts(path))
        except RequestError as error:
            # The upload's own place means nothing to who chose the file.
            raise RequestError(str(error).replace(str(path), path.name)) from None

    @shows_errors
    def load_given(self) -> Any:
        return _loaded(read_prompts(GIVEN))

    def count(self, table: list[list[object]]) -> int:
        return sum(1 for row in table if str(row[1] or "").strip())

    def start(
        self, adapter: str | None, mode: str, table: list[list[object]], known: Sequence[Prompt],
        **sampling: float,
    ) -> None:  # fmt: skip
        """Begin a comparison; an error says what is missing, before anything is asked."""
        adapters = runs.list_adapters()
        if adapter not in adapters:
            raise RequestError(f"No adapter named {str(adapter)[:70]!r}. There are: {', '.join(adapters) or 'none'}.")
        reason = why_not_ready(self.client.state())
        if reason:
            raise BusyError(f"{reason}. Wait until the header says that it is ready, then start again.")
        prompts, decoding = views.prompts_of(table, known), Decoding.of(**sampling)
        judge = load_judge() if mode == JUDGE_ONLY or _key()[1] else None
        base, seed = self.client.state().base, secrets.randbelow(SEEDS)

        def begin() -> Comparison:
            return Comparison.create(
                adapter, base, prompts, decoding, judge.model if judge else None, seed, mode == JUDGE_ONLY
            )

        self.worker.start(begin, judge)

    def go_on(self) -> None:
        """Pick the newest comparison up where it stands."""
        comparison = self.worker.current()
        if comparison is None:
            raise RequestError("There is no comparison to go on with. Start one.")
        plan, base = comparison.plan, self.client.state().base
        if base != plan.base_model:
            raise RequestError(
                f"This comparison was begun on {plan.base_model}, and {base or 'no model'} is loaded now. "
                f"Choose {plan.base_model} in the header, then go on."
            )
        judge = _judge_of(plan.judge_model, plan.is_judge_only)
        self.worker.start(lambda: comparison, judge)


def _start_update(value: tuple[str, bool]) -> Any:
    reason, is_unfinished = value
    label, variant = ("Start a new one", "secondary") if is_unfinished else ("Start", "primary")
    return gr.update(value=reason or label, variant=variant, interactive=not reason)


def _loaded(prompts: list[Prompt]) -> list[Any]:
    return [views.prompt_table(prompts), tuple(prompts), len(prompts)]


def _key() -> tuple[str, bool]:
    """What is wrong with the key, and whether there is one that can be tried."""
    try:
        return "", bool(api_key(KEY))
    except RequestError as error:
        return str(error), False


def _judge_of(model: str, is_needed: bool) -> Judge | None:
    """The judge of before; where its key is gone the person's votes go on without it, unless nobody votes."""
    if not model:
        return None
    try:
        return load_judge(model)
    except JudgeError:
        if is_needed:
            raise
        return None
