"""Train, first part: the form, what its settings are set for, and how it is filled in.

Knows how to fill in and read the form; what will run is the plan card's to say, and the data its panel's.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.utils import get_upload_folder

from core import runs, settings_file
from core.client import EngineClient, RunRequest
from core.errors import AdapterError, SettingError
from core.presets import Preset, Seat, reseat
from core.recipes import RECIPES
from core.settings import MAX_PINNED, MAX_PINNED_CHARS, TRAINING, Method, Size, parse_method, size_of
from core.ui import fields, plan_views, recipe_cards
from core.ui.bases import Bases
from core.ui.data_form import DataForm, run_choices, vote_choices
from core.ui.data_panel import DataPanel
from core.ui.notices import shows_errors
from core.ui.parts import LOOK, QUIET
from core.ui.plan_card import PlanCard
from core.ui.plan_views import METHOD_NAMES, METHOD_NOTES
from core.ui.train_form import TERM_FIELD, TrainForm, settings_of, shown_settings

FROM_BASE = ("the base itself", "")
FROM_NOTE = "Go on from a finished adapter of this base; DPO is then held to it."
FILE_NOTE = (
    "A settings file holds method, settings and pinned prompts. Model, data, rows and held-out pairs are not in it."
)
PINNED_NOTE = (
    f"Answered by base once and by the policy at every look. One a line, at most {MAX_PINNED} of {MAX_PINNED_CHARS} "
    "characters each; none, and only held-out pairs are looked at."
)
# What the settings are set for depends on these fields.
SEATING = ("model", "method", "loss", TERM_FIELD)


class ConfigurePanel:
    """`fields` are the form by name; `filled_outputs` are what `filled_from` updates, after which `planned` is an event
    that shows what it comes to."""

    def __init__(self, client: EngineClient, bases: Bases) -> None:
        self.client = client
        self.bases = bases
        self.data = DataPanel(client)
        self.card = PlanCard(client)
        self.recipes = recipe_cards.cards(client)

    # --- what it is made of -------------------------------------------------------------------------------

    def build(self) -> None:
        # What the settings were last set for: what was turned since stays where it does not depend on a change.
        self.seated = gr.State(Seat.of(Method.DPO, Size.SMALL))
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=3, min_width=340):
                self._build_data()
                own = self._build_method()
            with gr.Column(scale=2, min_width=320):
                self.card.build()
                self._build_recipes()
        self.data.build_lens()
        self.start = self.card.start
        self.fields: dict[str, Component] = {"model": self.model, **self.data.fields, **own}
        self.settings = {name: own[name] for name in (*TRAINING, TERM_FIELD)}
        said: list[Component] = [self.seated, self.method_note, self.moved]
        self.seats: list[Component] = [*said, self.fields["limit"], *self.settings.values()]
        self.filled_outputs: list[Component] = [*said, self.preset, *self.fields.values()]

    def _build_data(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.Markdown("### 1 · Model and data")
            self.model = gr.Dropdown(label="Base model", allow_custom_value=True, elem_id="train-model",
                                     info="A name from the list, a folder, or owner/name on the Hub.")  # fmt: skip
            self.data.build()

    def _build_method(self) -> dict[str, Component]:
        seat: Seat = self.seated.value
        simple = [s for s in TRAINING.values() if s.is_simple]
        advanced = [s for s in TRAINING.values() if not s.is_simple and s.name != "looks"]
        with gr.Column(elem_classes="card"):
            gr.Markdown("### 2 · Method")
            method = gr.Radio([(name, m) for m, name in METHOD_NAMES.items()], value=seat.method.value, label="Method",
                              show_label=False, elem_id="method")  # fmt: skip
            self.method_note = gr.Markdown(METHOD_NOTES[seat.method], elem_classes="note")
            self.preset = gr.Radio([(p.capitalize(), p.value) for p in Preset], value=seat.preset.value,
                                   label="How much", elem_id="preset")  # fmt: skip
            self.moved = gr.Markdown("", elem_id="moved")
            built = {"method": method, **fields.build(simple, seat)}
            with gr.Accordion("Watch it learn", open=False):
                built |= fields.build([TRAINING["looks"]], seat)
                built["pinned"] = gr.Textbox(TrainForm().pinned, label="Pinned prompts", info=PINNED_NOTE, lines=3,
                                             max_lines=MAX_PINNED, elem_id="pinned")  # fmt: skip
            with gr.Accordion("Advanced", open=False):
                built["from_adapter"] = gr.Dropdown([FROM_BASE], value="", label="Start from", info=FROM_NOTE,
                                                    interactive=True, elem_id="from-adapter")  # fmt: skip
                with gr.Row(elem_classes="grid"):
                    built |= fields.build(advanced, seat)
                self._build_file()
        return built

    def _build_file(self) -> None:
        with gr.Row(elem_classes="actions"):
            self.reset = gr.Button("Back to the defaults", size="sm", elem_id="defaults")
            self.save = gr.DownloadButton("Save settings", size="sm", elem_id="save-settings")
            self.upload = gr.UploadButton("Load settings or run.yaml", file_types=[".yaml", ".yml"], size="sm",
                                          elem_id="load-settings")  # fmt: skip
        gr.Markdown(FILE_NOTE, elem_classes="note")

    def _build_recipes(self) -> None:
        with gr.Column(elem_classes="card", elem_id="recipes"):
            gr.Markdown("### Or begin with a recipe")
            for recipe in self.recipes:
                recipe.build()

    def wire(self, world: gr.State) -> None:
        """The plan follows every change of the form, and of `world`: what engine and runs are doing."""
        self.planned: dict[str, Any] = {"fn": self.plan, "inputs_kwargs": {"seated": self.seated, **self.fields},
                                        "outputs": [*self.card.outputs, self.save], **LOOK}  # fmt: skip
        plain = [field for name, field in self.fields.items() if name not in SEATING]
        gr.on([*fields.settled(plain), *self.data.resets], **self.planned)
        seating: list[Any] = [self.preset, *(self.fields[name] for name in SEATING)]
        read = {"seated": self.seated, "preset": self.preset, **self.fields}
        # By hand only: what fills in the form sets its fields one after the other, and what stands in between is no
        # choice of anybody's. The world tells of another base.
        chosen = [*(field.input for field in seating), world.change]
        # A choice made while the one before is still worked out must not be dropped.
        gr.on(chosen, self.reseat, inputs_kwargs=read, outputs=self.seats, **LOOK).then(**self.planned)
        from_adapter = self.fields["from_adapter"]
        gr.on([world.change, self.model.input], self.offer_adapters, [self.model, from_adapter], from_adapter, **LOOK)
        self.data.wire(self.fields["max_length"])
        self.card.apply.click(self.apply, self.card.fix, list(self.settings.values()), **QUIET).then(**self.planned)
        self.reset.click(self.set_back, self.seated, self.seats, **QUIET).then(**self.planned)
        self.upload.upload(self.load, [self.upload, self.model], self.filled_outputs, **QUIET).then(**self.planned)
        for recipe in self.recipes:
            recipe.fill_button.click(self.fill_recipe, gr.State(recipe.recipe.name), self.filled_outputs, **QUIET).then(
                **self.planned
            )

    # --- what the settings are set for --------------------------------------------------------------------

    @shows_errors
    def plan(self, seated: Seat, **form: Any) -> Any:
        """The card, its Start button, and the settings as a file."""
        known = TrainForm.of(form)
        return [*self.card.show(known, seated, form["limit"]), _saved(known)]

    @shows_errors
    def reseat(self, seated: Seat, preset: str, **form: Any) -> Any:
        """The defaults that depend on method, base, loss and preset, unless the form has been set for these."""
        shown = {**settings_of(form), "limit": form["limit"]}
        method, size = parse_method(form["method"]), self.size(form["model"])
        seat = seated.following(method, size, Preset(preset), TRAINING["loss"].check(shown["loss"]))
        if seat == seated:
            return gr.skip()
        values, moves = reseat(seated, seat, shown)
        return self._seats(seat, values, plan_views.moved_words(seated, seat, moves))

    @shows_errors
    def set_back(self, seated: Seat) -> Any:
        """Every setting as it is to begin with for this method, base and preset."""
        seat = Seat.of(seated.method, seated.size, seated.preset)
        return self._seats(seat, seat.values(), f"Everything is set back to {seat.preset}.")

    def _seats(self, seat: Seat, values: Mapping[str, Any], words: str) -> list[Any]:
        settings = {name: value for name, value in values.items() if name in TRAINING}
        return [seat, METHOD_NOTES[seat.method], words, values["limit"], *fields.updates(settings).values()]

    @shows_errors
    def apply(self, fix: Mapping[str, Any]) -> Any:
        """What would make the plan fit."""
        shown = shown_settings(fix)
        return [shown.get(name, gr.skip()) for name in self.settings]

    @shows_errors
    def offer_adapters(self, model: str, chosen: str) -> Any:
        return _adapters(model, chosen if chosen in _adapters_of(model) else "")

    def size(self, model: str) -> Size:
        """The model's size as far as it is known; a model from elsewhere is taken to be large."""
        known = {base.name: base.num_parameters for base in self.bases.known()}
        state = self.client.state()
        parameters = known.get(model) or (state.num_parameters if model == state.base else 0)
        return size_of(parameters) if parameters or not model else Size.LARGE

    # --- filling it in, and starting ----------------------------------------------------------------------

    def filled_from(self, request: RunRequest) -> list[Any]:
        """Updates of `filled_outputs` that make the form say `request`; what it leaves open is at its defaults."""
        data = DataForm.showing(request)
        words = f"Filled in: {METHOD_NAMES[request.method]} on {DataForm.of(data).words()}."
        chosen = {"earlier_run": run_choices, "votes": vote_choices}
        offered = {name: gr.update(value=data[name], choices=choices()) for name, choices in chosen.items()}
        model = request.model or self.client.state().base
        return self._filled(request, model, {"model": model, **data, **offered}, words)

    @shows_errors
    def fill_recipe(self, name: str) -> Any:
        return self.filled_from(RECIPES[name].request)

    @shows_errors
    def load(self, path: str, model: str) -> Any:
        """The method, settings, pinned prompts and adapter of a settings file; model and data stay."""
        request = settings_file.read(Path(path))
        return self._filled(request, model, {}, f"Filled in from {Path(path).name}: {METHOD_NAMES[request.method]}.")

    def _filled(self, request: RunRequest, model: str, others: Mapping[str, Any], words: str) -> list[Any]:
        method = parse_method(request.method)
        seat = Seat.of(method, self.size(model), loss=str(request.settings.get("loss", "")))
        if request.from_adapter and request.from_adapter not in _adapters_of(model):
            raise AdapterError(f"There is no adapter '{request.from_adapter}' of this base to start from.")
        values = {name: value for name, value in seat.values().items() if name in TRAINING}
        updates: dict[str, Any] = {
            **others, "method": method.value, "pinned": TrainForm.showing(request)["pinned"],
            "from_adapter": _adapters(model, request.from_adapter), **fields.updates(values | _used(request, values)),
        }  # fmt: skip
        shown = [updates.get(name, gr.skip()) for name in self.fields]
        return [seat, METHOD_NOTES[method], words, Preset.STANDARD.value, *shown]

    def begin(self, **form: Any) -> str:
        """Start what the form says; the run's name."""
        return self.client.start_run(TrainForm.of(form).request())


def _used(request: RunRequest, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: TRAINING[name].check(value) for name, value in request.settings.items() if name in values}


def _adapters_of(base: str) -> list[str]:
    """Finished adapters of this base, the newest first."""
    return [run.name for run in runs.list_runs() if run.base == base and runs.has_adapter(run.name)]


def _adapters(base: str, chosen: str) -> Any:
    return gr.update(choices=[FROM_BASE, *((name, name) for name in _adapters_of(base))], value=chosen)


def _saved(form: TrainForm) -> Any:
    """The button that downloads the settings; its file lies where its contents say, so that no two pages share one."""
    try:
        text = settings_file.write(form.how())
    except SettingError:  # the plan says which
        return gr.update(value=None, interactive=False)
    folder = Path(get_upload_folder()) / hashlib.sha256(text.encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / settings_file.NAME).write_text(text, encoding="utf-8")
    return gr.update(value=str(folder / settings_file.NAME), interactive=True)
