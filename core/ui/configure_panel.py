"""Train, first part: the form, the card that says what will run, and the recipes.

Knows how to fill in and read the form; what a request means, costs and does is the client's to say.
"""

from typing import Any

import gradio as gr
from gradio.components import Component

from core import runs
from core.client import EngineClient, EnginePhase
from core.errors import PlaygroundError
from core.recipes import RECIPES, Recipe
from core.settings import DATA, TRAINING, Method, Size, parse_method, size_of
from core.sources import is_on_hub
from core.ui import fields, views
from core.ui.bases import Bases
from core.ui.notices import sentence_of, shows_errors, title_of
from core.ui.plan_views import METHOD_NAMES, METHOD_NOTES, WONT_FIT, plan_words
from core.ui.train_form import PARTS, SOURCE_NOTES, DataSource, TrainForm

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
START = "Start training"
START_ANYWAY = "Start, though it won't fit"
# A longer reason stands on the card, and the button names its kind.
MAX_LABEL = 44
TRY_AGAIN = "**Choose a model at the top of the page to try again.**"
WAITING = "**The model is still being loaded.** What will run is worked out as soon as it is there."


class ConfigurePanel:
    """`fields` are the form by name; `outputs` are the card and the Start button; `seats` the settings, after the
    note that says what the method does."""

    def __init__(self, client: EngineClient, bases: Bases) -> None:
        self.client = client
        self.bases = bases

    def build(self) -> None:
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=3, min_width=340):
                data = self._build_data()
                method = self._build_method()
            with gr.Column(scale=2, min_width=320):
                self._build_card()
                self._build_recipes()
        self.fields: dict[str, Component] = data | method
        # Method and size that the settings were last set for: what was turned since stays until one changes.
        self.seated = gr.State(f"{Method.DPO} {Size.SMALL}")
        self.seats: list[Component] = [self.method_note, *(self.fields[name] for name in TRAINING)]
        self.outputs: list[Component] = [self.card, self.start]

    def _build_data(self) -> dict[str, Component]:
        with gr.Column(elem_classes="card"):
            gr.Markdown("### 1 · Model and data")
            self.model = gr.Dropdown(label="Base model", allow_custom_value=True, elem_id="train-model",
                                     info="A name from the list, a folder, or owner/name on the Hub.")  # fmt: skip
            self.source = gr.Radio(list(DataSource), value=DataSource.STARTER, label="Data", elem_id="source")
            self.note = gr.Markdown(SOURCE_NOTES[DataSource.STARTER], elem_classes="note")
            part = gr.Radio(list(PARTS), value=next(iter(PARTS)), label="Part of HH-RLHF", visible=False)
            file = gr.File(label="Preference file", file_types=[".jsonl", ".gz"], type="filepath", visible=False,
                           height=120, elem_id="file")  # fmt: skip
            hub_id = gr.Textbox(label="Hub id", placeholder="owner/name or owner/name:folder", visible=False,
                                max_lines=1, elem_id="hub-id")  # fmt: skip
            with gr.Row():
                limit = gr.Number(
                    DATA["limit"].default, label=DATA["limit"].label, info=DATA["limit"].help, elem_id="limit"
                )
                held_out = gr.Textbox(
                    label=DATA["held_out"].label, info=DATA["held_out"].help, placeholder="a quarter, at most 200",
                    max_lines=1, elem_id="held-out",
                )  # fmt: skip
        self.by_source = {DataSource.HH_RLHF: part, DataSource.FILE: file, DataSource.HUB: hub_id}
        return {"model": self.model, "source": self.source, "part": part, "file": file, "hub_id": hub_id,
                "limit": limit, "held_out": held_out}  # fmt: skip

    def _build_method(self) -> dict[str, Component]:
        simple = [s for s in TRAINING.values() if s.is_simple]
        advanced = [s for s in TRAINING.values() if not s.is_simple]
        with gr.Column(elem_classes="card"):
            gr.Markdown("### 2 · Method")
            method = gr.Radio([(METHOD_NAMES[m], m.value) for m in (Method.DPO, Method.SFT)], value=Method.DPO.value,
                              label="Method", show_label=False, elem_id="method")  # fmt: skip
            self.method_note = gr.Markdown(METHOD_NOTES[Method.DPO], elem_classes="note")
            first = fields.build(simple, Method.DPO, Size.SMALL)
            with gr.Accordion("Advanced", open=False), gr.Row(elem_classes="grid"):
                more = fields.build(advanced, Method.DPO, Size.SMALL)
        self.method = method
        return {"method": method} | first | more

    def _build_card(self) -> None:
        with gr.Column(elem_classes="card", elem_id="plan"):
            gr.Markdown("### What will run")
            self.card = gr.Markdown(WAITING, elem_id="plan-words")
            self.start = gr.Button("Waiting for the model", variant="primary", size="lg", interactive=False,
                                   elem_id="start")  # fmt: skip

    def _build_recipes(self) -> None:
        self.recipes: list[tuple[Recipe, gr.Button]] = []
        with gr.Column(elem_classes="card", elem_id="recipes"):
            gr.Markdown("### Or begin with a recipe\nIt only fills in the form; you start it.")
            for recipe in RECIPES.values():
                with gr.Row(elem_classes="recipe"):
                    gr.Markdown(f"**{recipe.title}**  \n{recipe.note}")
                    button = gr.Button("Fill in", size="sm", scale=0, min_width=90, elem_id=f"recipe-{recipe.name}")
                self.recipes.append((recipe, button))

    def wire(self, world: gr.State) -> None:
        """The plan follows every change of the form, and of `world`: what engine and runs are doing."""
        plan: dict[str, Any] = {"fn": self.plan, "inputs_kwargs": self.fields, "outputs": self.outputs, **QUIET}
        plain = [field for name, field in self.fields.items() if name not in ("model", "method")]
        gr.on(fields.settled(plain), trigger_mode="always_last", **plan)
        world.change(**plan)
        self.source.change(self.show_source, self.source, [self.note, *self.by_source.values()], **QUIET)
        gr.on([self.model.change, self.method.change], self.reseat, [self.method, self.model, self.seated],
              [self.seated, *self.seats], **QUIET).then(**plan)  # fmt: skip
        for recipe, button in self.recipes:
            filled = [self.seated, self.method_note, *self.fields.values()]
            button.click(_Filler(self, recipe).fill, None, filled, **QUIET).then(**plan)

    # --- handlers -----------------------------------------------------------------------------------------

    @shows_errors
    def plan(self, **form: Any) -> Any:
        """The card and the Start button, whose label is the reason where it cannot be pressed."""
        state = self.client.state()
        if state.phase in (EnginePhase.FAILED, EnginePhase.DEAD):
            return [f"{views.as_text(state.message)}\n\n{TRY_AGAIN}", _disabled("No model is loaded")]
        if state.phase is not EnginePhase.READY:
            return [WAITING, _disabled("Waiting for the model")]
        try:
            words, label = self._plan_words(TrainForm.of(**form))
        except PlaygroundError as error:
            return _refused(error)
        running = runs.current_run()
        return [words, _disabled(f"{running.name} is going on") if running else _enabled(label)]

    def _plan_words(self, form: TrainForm) -> tuple[str, str]:
        """What would run, and what the button that starts it says."""
        request = form.request()
        plan = self.client.preview(request)
        words = plan_words(plan, data_words(form), is_on_hub(request.dataset))
        return words, START_ANYWAY if plan.fit == WONT_FIT else START

    @shows_errors
    def reseat(self, method: str, model: str, seated: str) -> Any:
        """The defaults of this method for a base of this size, unless they are what the form has been set to."""
        if (seat := self.seat(method, model)) == seated:
            return gr.skip()
        return [seat, METHOD_NOTES[parse_method(method)], *fields.reseated(method, self.size(model)).values()]

    def seat(self, method: str, model: str) -> str:
        return f"{method} {self.size(model)}"

    @shows_errors
    def show_source(self, source: str) -> Any:
        return [SOURCE_NOTES[DataSource(source)], *(gr.update(visible=s == source) for s in self.by_source)]

    def filled(self, recipe: Recipe) -> list[Any]:
        """What the form is set to, the method's note and every field, as the recipe wants them."""
        form = TrainForm.showing(recipe.request)
        model = form.model or self.client.state().base
        values: dict[str, Any] = fields.reseated(form.method, self.size(model), form.settings)
        values |= {name: vars(form)[name] for name in self.fields if name not in values}
        values |= {"model": model, "held_out": "" if form.held_out is None else str(form.held_out)}
        return [self.seat(form.method, model), METHOD_NOTES[Method(form.method)], *(values[n] for n in self.fields)]

    def begin(self, **form: Any) -> str:
        """Start what the form says; the run's name."""
        return self.client.start_run(TrainForm.of(**form).request())

    def size(self, model: str) -> Size:
        """The model's size as far as it is known; a model from elsewhere is taken to be large."""
        known = {base.name: base.num_parameters for base in self.bases.known()}
        state = self.client.state()
        parameters = known.get(model) or (state.num_parameters if model == state.base else 0)
        return size_of(parameters) if parameters or not model else Size.LARGE


class _Filler:
    """A recipe's button. Gradio's injection wants a bound method, and each button fills in its own."""

    def __init__(self, panel: ConfigurePanel, recipe: Recipe) -> None:
        self.panel = panel
        self.recipe = recipe

    @shows_errors
    def fill(self) -> Any:
        return self.panel.filled(self.recipe)


def data_words(form: TrainForm) -> str:
    words = {
        DataSource.STARTER: "the starter data",
        DataSource.HH_RLHF: f"HH-RLHF ({form.part.lower()})",
        DataSource.FILE: "your file",
        DataSource.HUB: form.hub_id,
    }
    return words[DataSource(form.source)]


def _enabled(label: str) -> Any:
    return gr.update(value=label, interactive=True)


def _disabled(reason: str) -> Any:
    return gr.update(value=reason, interactive=False)


def _refused(error: PlaygroundError) -> list[Any]:
    sentence = sentence_of(error)
    label = sentence.rstrip(".") if len(sentence) <= MAX_LABEL else title_of(error)
    return [f"**{title_of(error)}.** {views.as_text(sentence)}", _disabled(label)]
