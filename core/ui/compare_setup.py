"""The first part of a comparison: who is compared, on what, who decides, how responses are drawn, and Start.

Parses what was chosen and hands it to the worker; knows nothing of votes or results.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import gradio as gr

from core import runs
from core.client import EngineClient
from core.compare import Comparison
from core.errors import BusyError, PlaygroundError, RequestError
from core.judge import DEFAULT_MODEL, Judge, load_judge
from core.prices import RESPONSE_TOKENS
from core.prompt_sets import trained_on
from core.prompts import Prompt
from core.redact import api_key
from core.report import promise
from core.settings import COMPARISON, DECODING, Decoding
from core.standing import Decider
from core.ui import compare_views as views
from core.ui import fields
from core.ui.chat_views import why_not_ready
from core.ui.compare_prompts import PromptPicker
from core.ui.compare_views import MODES, Mode
from core.ui.compare_worker import ComparisonWorker
from core.ui.parts import Updates
from core.ui.views import as_text

KEY = "GEMINI_API_KEY"
# Seeds are drawn small, so that they can be read out and typed again.
SEEDS = 1_000_000


class CompareSetup:
    def __init__(self, client: EngineClient, worker: ComparisonWorker) -> None:
        self.client = client
        self.worker = worker
        self.picker = PromptPicker()
        # The last answer is kept, since it takes a look through the adapter's data.
        self._trained_on = lru_cache(maxsize=1)(lambda adapter, prompts: trained_on(adapter, prompts))

    def build(self) -> None:
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=3, min_width=420):
                self._build_choices()
            with gr.Column(scale=2, min_width=320):
                self._build_plan()
        self.outputs: list[Any] = [self.adapter, self.plan, self.start_button, self.measured, self.measured_card,
                                   self.picker.set]  # fmt: skip
        # What the plan depends on; `form` is what Start reads.
        self.chosen: list[Any] = [self.adapter, self.mode, self.picker.prompts]
        self.form: list[Any] = [self.adapter, self.mode, self.picker.table, self.picker.known]

    def _build_choices(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.Markdown("### 1 · Who and on what")
            with gr.Row():
                self.adapter = gr.Dropdown(
                    [], label="Adapter, against its base", interactive=True, elem_id="compare-adapter", min_width=180
                )
                self.picker.build_choice()
            self.picker.build_table()
        with gr.Column(elem_classes="card"):
            gr.Markdown("### 2 · Who decides")
            self.mode = gr.Radio(
                [(words, mode.value) for mode, words in MODES.items()],
                value=Mode.HUMAN.value, label="Who decides", show_label=False, elem_id="compare-mode",
            )  # fmt: skip
            with gr.Accordion("Sampling", open=False, elem_id="compare-sampling"):
                self.sampling = fields.sliders("compare", DECODING | COMPARISON)

    def _build_plan(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.Markdown("### What will happen")
            self.plan = gr.Markdown("", elem_id="compare-plan")
            self.start_button = gr.Button("Start", variant="primary", elem_id="compare-start", interactive=False)
        with gr.Column(elem_classes="card", visible=False) as self.measured_card:
            gr.Markdown("### What its run measured")
            self.measured = gr.Markdown("", elem_id="compare-measured")
            gr.Markdown("On pairs held out of training. Shown beside the comparison; it decides nothing.",
                        elem_classes="caption")  # fmt: skip

    def view(
        self, adapters: Sequence[str], adapter: str | None, mode: str, prompts: Sequence[Prompt], is_unfinished: bool,
        drawn: Mapping[str, float],
    ) -> Updates:  # fmt: skip
        """`is_unfinished` where a new comparison would leave one behind."""
        key_problem, has_key = _key()
        chosen = Mode(mode) if mode in set(Mode) else Mode.HUMAN
        seen_before = self._trained_on(adapter, tuple(prompts)) if adapter else []
        key_words = as_text(key_problem) if key_problem else "" if has_key else views.NO_KEY
        measured = views.measured_words(runs.read_run(adapter).result) if adapter else ""
        label, variant = ("Start a new one", "secondary") if is_unfinished else ("Start", "primary")
        reason = self._why_not(adapter, chosen, has_key, prompts)
        return {
            self.adapter: gr.update(choices=adapters, value=adapter),
            self.plan: views.plan_words(adapter, chosen, _promised(prompts, chosen, drawn), seen_before, key_words),
            self.start_button: gr.update(value=reason or label, variant=variant, interactive=not reason),
            self.measured: measured, self.measured_card: gr.update(visible=bool(measured)), **self.picker.view(),
        }  # fmt: skip

    def _why_not(self, adapter: str | None, mode: Mode, has_key: bool, prompts: Sequence[Prompt]) -> str:
        if self.worker.is_running:
            return "A comparison is going on"
        if not adapter:
            return "Train an adapter first"
        if not prompts:
            return "Write a prompt first"
        if mode.is_judged and not has_key:
            return "Gemini needs a key first"
        return why_not_ready(self.client.state())

    def start(
        self, adapter: str | None, mode: str, table: list[list[object]], known: Sequence[Prompt], **drawn: float
    ) -> None:
        """Begin a comparison; an error says what is missing, before anything is asked."""
        adapters = runs.list_adapters()
        if adapter not in adapters:
            raise RequestError(f"No adapter named {str(adapter)[:70]!r}. There are: {', '.join(adapters) or 'none'}.")
        if mode not in set(Mode):
            raise RequestError(f"Who decides is one of {', '.join(Mode)}, not {str(mode)[:40]!r}.")
        reason = why_not_ready(self.client.state())
        if reason:
            raise BusyError(f"{reason}. Wait until the header says that it is ready, then start again.")
        prompts, decoding = views.prompts_of(table, known), _decoding(drawn)
        samples, num_placebos = _drawn(drawn, len(prompts))
        chosen = Mode(mode)
        judge = load_judge() if chosen.is_judged else None
        base, seed = self.client.state().base, secrets.randbelow(SEEDS)

        def begin() -> Comparison:
            return Comparison.create(
                adapter, base, prompts, decoding, judge.model if judge else "", seed, samples, num_placebos,
                chosen.primary, chosen is Mode.ALONE,
            )  # fmt: skip

        self.worker.start(begin, judge)

    def go_on(self) -> None:
        """Pick the newest comparison up where it stands."""
        comparison = self.worker.current()
        if comparison is None:
            raise RequestError("There is no comparison to go on with. Start one.")
        plan, counts = comparison.plan, comparison.counts()
        if counts.answered < counts.total:
            comparison.check_unchanged()
            base = self.client.state().base
            if base != plan.base_model:
                raise RequestError(
                    f"This comparison was begun on {plan.base_model}, and {base or 'no model'} is loaded now. "
                    f"Choose {plan.base_model} in the header, then go on."
                )
        judge = _judge_of(plan.judge_model, plan.primary is Decider.JUDGE)
        self.worker.start(lambda: comparison, judge)


def _decoding(drawn: Mapping[str, Any]) -> Decoding:
    return Decoding.of(**{name: value for name, value in drawn.items() if name in DECODING})


def _drawn(drawn: Mapping[str, float], num_prompts: int) -> tuple[int, int]:
    """Draws of each prompt, and how many placebo pairs that share comes to; SettingError where out of range."""
    checked = {name: s.check(drawn.get(name, s.default)) for name, s in COMPARISON.items()}
    return checked["samples"], round(checked["placebo_share"] * num_prompts)


def _promised(prompts: Sequence[Prompt], mode: Mode, drawn: Mapping[str, float]) -> str:
    """What so many prompts can show; where that cannot be reckoned, why."""
    try:
        samples, num_placebos = _drawn(drawn, len(prompts))
        longest = DECODING["max_new_tokens"].check(drawn.get("max_new_tokens", RESPONSE_TOKENS))
        judge_model = DEFAULT_MODEL if mode.is_judged else ""
        return promise(len(prompts), samples, num_placebos, judge_model, min(RESPONSE_TOKENS, longest))
    except RequestError as error:
        return str(error)


def _key() -> tuple[str, bool]:
    """What is wrong with the key, and whether there is one that can be tried."""
    try:
        return "", bool(api_key(KEY))
    except RequestError as error:
        return str(error), False


def _judge_of(model: str, is_needed: bool) -> Judge | None:
    """The judge of before; where its key is gone the person's votes go on without it, unless the judge decides."""
    if not model:
        return None
    try:
        return load_judge(model)
    except PlaygroundError:
        if is_needed:
            raise
        return None
