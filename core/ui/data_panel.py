"""Where the data comes from: the data's part of the Train tab's form, and the button that opens the lens on it.

Knows the fields and when what they ask for is looked at; what the data holds is the client's to say.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from core.client import EngineClient, EnginePhase, RunRequest
from core.errors import PlaygroundError
from core.settings import DATA, Method
from core.sources import is_on_hub
from core.ui.data_form import COLUMNS, PARTS, SOURCE_NOTES, DataForm, DataSource, run_choices, vote_choices
from core.ui.lens_panel import LensPanel, Looked
from core.ui.notices import shows_errors
from core.ui.parts import QUIET, Updates
from core.ui.views import as_text
from core.wire import DataView

FILE_TYPES = [".jsonl", ".json", ".csv", ".parquet", ".gz"]
# What there is to choose at this moment, and what to do where that is nothing.
CHOICES = {DataSource.VOTES: vote_choices, DataSource.EARLIER_RUN: run_choices}
NONE_YET = {
    DataSource.VOTES: "**No votes yet.** Vote under Compare, and export the votes below its result.",
    DataSource.EARLIER_RUN: "**No run yet.** Train once on other data, and it can be taken again from here.",
}
CHOOSE_COLUMNS = (
    "The columns' names do not say which holds what. Choose them here; without a rejected reply, only SFT can use them."
)
COLUMN_LABELS = dict(zip(COLUMNS, ("Prompt", "Chosen reply", "Rejected reply"), strict=True))
# What need not be a column of its own: the value "" stands for none.
NO_COLUMN = {"prompt": [("in the replies", "")], "chosen": [], "rejected": [("none", "")]}


class DataPanel:
    """`fields` are the data's part of the form by name. The events in `resets` come when columns are forgotten."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.lens = LensPanel(client)

    def build(self) -> None:
        self.source = gr.Radio(list(DataSource), value=DataSource.STARTER, label="Data", elem_id="source")
        self.note = gr.Markdown(SOURCE_NOTES[DataSource.STARTER], elem_classes="note")
        sources, columns, sizes = self._build_sources(), self._build_columns(), self._build_sizes()
        self.found = gr.Markdown("", elem_id="data-found")
        self.look = gr.Button("Look at the data", elem_id="look", size="md")
        self.fields: dict[str, Component] = {"source": self.source} | sources | columns | sizes
        self.resets = [column.change for column in columns.values()]

    def build_lens(self) -> None:
        self.lens.build()

    def _build_sources(self) -> dict[str, Component]:
        part = gr.Radio(list(PARTS), value=next(iter(PARTS)), label="Part of HH-RLHF", visible=False)
        self.file = gr.File(label="Preference file", file_types=FILE_TYPES, type="filepath", visible=False,
                            height=120, elem_id="file")  # fmt: skip
        with gr.Row(visible=False) as hub:
            hub_id = gr.Textbox(label="Hub id", placeholder="owner/name or owner/name:folder", max_lines=1,
                                elem_id="hub-id", scale=2, min_width=200)  # fmt: skip
            config = gr.Textbox(label="Configuration", placeholder="as published", max_lines=1, min_width=110)
            split = gr.Textbox(label="Split", placeholder="train", max_lines=1, min_width=110)
        votes = gr.Dropdown([], label="Exported votes", visible=False, interactive=True, elem_id="votes")
        run = gr.Dropdown([], label="Run", visible=False, interactive=True, elem_id="earlier-run")
        self.by_source: dict[str, Any] = {
            DataSource.HH_RLHF: part, DataSource.FILE: self.file, DataSource.HUB: hub, DataSource.VOTES: votes,
            DataSource.EARLIER_RUN: run,
        }  # fmt: skip
        return {"part": part, "file": self.file, "hub_id": hub_id, "hub_config": config, "hub_split": split,
                "votes": votes, "earlier_run": run}  # fmt: skip

    def _build_columns(self) -> dict[str, gr.Dropdown]:
        with gr.Column(visible=False, elem_id="columns") as self.columns:
            gr.Markdown(CHOOSE_COLUMNS)
            with gr.Row():
                found = {f"column_{name}": gr.Dropdown([], label=label, interactive=True, min_width=140)
                         for name, label in COLUMN_LABELS.items()}  # fmt: skip
        return found

    def _build_sizes(self) -> dict[str, Component]:
        limit, held_out, seed = DATA["limit"], DATA["held_out"], DATA["split_seed"]
        with gr.Row(elem_id="sizes") as self.sizes:
            return {
                "limit": gr.Number(limit.default, label=limit.label, info=limit.help, elem_id="limit", min_width=130),
                "held_out": gr.Textbox(label=held_out.label, info=held_out.help, placeholder="a quarter, at most 200",
                                       max_lines=1, elem_id="held-out", min_width=130),
                "split_seed": gr.Number(seed.default, label=seed.label, info=seed.help, elem_id="split-seed",
                                        min_width=130),
            }  # fmt: skip

    def wire(self, max_length: Component | None = None) -> None:
        """`max_length` is the setting's field, which decides over what the model sees of a reply."""
        self.lens.wire()
        asked = self.fields | ({"max_length": max_length} if max_length else {})
        columns: list[Any] = [self.fields[f"column_{name}"] for name in COLUMNS]
        found: list[Any] = [self.found, self.columns, *columns]
        follow: dict[str, Any] = {"inputs_kwargs": asked | {"looked": self.lens.looked},
                                  "outputs": [*found, *self.lens.outputs], **QUIET}  # fmt: skip
        self.source.change(
            self.show_source, self.source, [self.note, self.sizes, *self.by_source.values(), *found], **QUIET
        ).then(self.follow, **follow)
        gr.on([self.file.upload, self.file.clear], self.forget_columns, None, found, **QUIET).then(
            self.follow, **follow
        )
        # What was filled in counts as much as what was chosen by hand, so it is the change that is followed.
        chosen: list[Any] = [self.fields["votes"], self.fields["earlier_run"], *columns]
        gr.on([field.change for field in chosen], self.follow, trigger_mode="always_last", **follow)
        rest: list[Any] = [field for field in asked.values() if field not in (self.source, self.file, *chosen)]
        gr.on([field.change for field in rest], self.refresh, trigger_mode="always_last", **follow)
        self.look.click(self.open, inputs_kwargs=asked, outputs=[*found, *self.lens.outputs], api_visibility="private",
                        show_progress="minimal", show_progress_on=self.found)  # fmt: skip

    # --- handlers -----------------------------------------------------------------------------------------

    @shows_errors
    def show_source(self, source: str) -> Any:
        """The fields of this source, with what there is to choose at this moment."""
        updates: Updates = {field: gr.update(visible=name == source) for name, field in self.by_source.items()}
        note = SOURCE_NOTES[DataSource(source)]
        if source in CHOICES:
            choices = CHOICES[DataSource(source)]()
            updates[self.by_source[source]] = gr.update(visible=bool(choices), choices=choices)
            note = note if choices else NONE_YET[DataSource(source)]
        # What an earlier run held out stays held out.
        sizes = gr.update(visible=source != DataSource.EARLIER_RUN)
        return {self.note: note, self.sizes: sizes} | updates | self.forget_columns()

    def forget_columns(self) -> Updates:
        """Other data has other columns."""
        columns = {self.fields[f"column_{name}"]: gr.update(value=None, choices=[]) for name in COLUMNS}
        return {self.found: "", self.columns: gr.update(visible=False)} | columns

    @shows_errors
    def follow(self, looked: Looked | None, **form: Any) -> Any:
        """What the chosen data is found to be; an open lens follows, unless that took a download."""
        try:
            request = _request(form)
            is_at_hand = self.client.state().phase is EnginePhase.READY and not is_on_hub(request.dataset)
            view = self.client.look_at_data(request) if is_at_hand else None
        except PlaygroundError:  # the plan says what stands in the way
            view = None
        return self._found(request, view, looked is not None) if view else {self.found: ""} | self.lens.closed()

    @shows_errors
    def refresh(self, looked: Looked | None, **form: Any) -> Any:
        """After a change that leaves the data what it is: an open lens follows."""
        return self.follow(looked, **form) if looked else gr.skip()

    @shows_errors
    def open(self, **form: Any) -> Any:
        request = _request(form)
        return self._found(request, self.client.look_at_data(request), True)

    def _found(self, request: RunRequest, view: DataView, is_open: bool) -> Updates:
        """What was found, in the lens too where that is open; or the columns to choose from."""
        if not view.is_unmapped:
            return {self.found: as_text(view.found)} | (self.lens.opened(request, view) if is_open else {})
        columns = {self.fields[f"column_{name}"]: gr.update(choices=[*none, *((c, c) for c in view.columns)])
                   for name, none in NO_COLUMN.items()}  # fmt: skip
        return {self.found: "", self.columns: gr.update(visible=True)} | columns | self.lens.closed()


def _request(form: Mapping[str, Any]) -> RunRequest:
    """What the lens asks: the data, and where its replies are cut."""
    settings = {name: form[name] for name in ("max_length",) if name in form}
    return RunRequest(method=Method.DPO, settings=settings, **DataForm.of(form).request_part())
