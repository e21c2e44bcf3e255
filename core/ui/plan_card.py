"""The card that says what will run: in words, in memory, with the smallest change that fits, and the Start button.

What a request means and costs is the client's to say; where nothing can be started, the button's label is the reason.
"""

from typing import Any

import gradio as gr
from gradio.components import Component

from core import runs
from core.client import EngineClient, EnginePhase, RunPlan
from core.errors import PlaygroundError
from core.presets import Seat, turned
from core.settings import Method, Settings
from core.sources import is_on_hub
from core.ui import plan_views, views
from core.ui.notices import sentence_of, title_of
from core.ui.plan_views import WONT_FIT
from core.ui.train_form import TrainForm

START = "Start training"
START_ANYWAY = "Start, though it won't fit"
# A longer reason stands on the card, and the button names its kind.
MAX_LABEL = 44
NO_MODEL, WAITING_LABEL = "No model is loaded", "Waiting for the model"
TRY_AGAIN = "**Choose a model at the top of the page to try again.**"
WAITING = "**The model is still being loaded.** What will run is worked out as soon as it is there."


class PlanCard:
    """`outputs` are what `show` fills, in its order; `fix` holds the settings that the Apply button sets."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client

    def build(self) -> None:
        with gr.Column(elem_classes="card", elem_id="plan"):
            gr.Markdown("### What will run")
            self.words = gr.Markdown(WAITING, elem_id="plan-words")
            self.memory = gr.HTML("", elem_id="plan-memory", padding=False)
            self.apply = gr.Button("Apply", visible=False, elem_id="plan-fix")
            self.fix = gr.State({})
            self.start = gr.Button(WAITING_LABEL, variant="primary", size="lg", interactive=False, elem_id="start")
        self.outputs: list[Component] = [self.words, self.memory, self.apply, self.fix, self.start]

    def show(self, form: TrainForm, seat: Seat, rows: Any) -> list[Any]:
        """The plan of what the form says; `rows` is its number of rows, which a preset sets too."""
        state = self.client.state()
        if state.phase in (EnginePhase.FAILED, EnginePhase.DEAD):
            return _nothing(f"{views.as_text(state.message)}\n\n{TRY_AGAIN}", NO_MODEL)
        if state.phase is not EnginePhase.READY:
            return _nothing(WAITING, WAITING_LABEL)
        try:
            request = form.request()
            plan = self.client.preview(request)
            settings = Settings.of(Method(request.method), seat.size, request.settings)
        except PlaygroundError as error:
            return _refused(error)
        words = plan_views.plan_words(
            plan, form.data.words(), is_on_hub(request.dataset), request.from_adapter, settings
        )
        changed = plan_views.turned_words(turned(seat, {**form.settings, "limit": rows}))
        return [f"{words}\n\n{changed}".strip(), plan_views.memory_picture(plan), *_fixes(plan), _start(plan)]


def _fixes(plan: RunPlan) -> list[Any]:
    return [gr.update(value=plan_views.fix_label(plan.fix), visible=bool(plan.fix)), plan.fix]


def _start(plan: RunPlan) -> Any:
    running = runs.current_run()
    label = START_ANYWAY if plan.fit == WONT_FIT else START
    return gr.update(value=f"{running.name} is going on" if running else label, interactive=running is None)


def _nothing(words: str, label: str) -> list[Any]:
    return [words, "", gr.update(visible=False), {}, gr.update(value=label, interactive=False)]


def _refused(error: PlaygroundError) -> list[Any]:
    sentence = sentence_of(error)
    label = sentence.rstrip(".") if len(sentence) <= MAX_LABEL else title_of(error)
    return _nothing(f"**{title_of(error)}.** {views.as_text(sentence)}", label)
