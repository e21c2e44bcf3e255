"""What a comparison asks, as the page has it: a set to choose, a table to edit, a file to load, a name to save under.

Knows nothing of who answers or decides.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import RequestError
from core.prompt_sets import Given, list_own, load_set, save_set
from core.prompts import Prompt, read_prompts
from core.ui import compare_views as views
from core.ui.notices import show, shows_errors
from core.ui.parts import QUIET, Made, Updates

FIRST = Given.STANDARD
WORDS = {
    Given.QUICK: "Quick", Given.STANDARD: "Standard", Given.FULL: "Full", Given.HARMLESSNESS: "Harmlessness",
}  # fmt: skip
HELD_OUT = "Held-out prompts of this adapter"


class PromptPicker:
    def build_choice(self) -> None:
        self.set = gr.Dropdown(
            choices(list_own()), value=FIRST.value, label="Prompts", interactive=True, elem_id="compare-set",
            min_width=180,
        )  # fmt: skip

    def build_table(self) -> None:
        prompts = load_set(FIRST)
        # What the table was filled with, so that a prompt that was not touched keeps its id and its earlier turns.
        self.known = gr.State(tuple(prompts))
        # What the table asks now.
        self.prompts = gr.State(tuple(prompts))
        with gr.Accordion("Look at them, change them, bring your own", open=False, elem_id="compare-prompts"):
            self.table = gr.Dataframe(
                views.prompt_table(prompts), headers=["Category", "Prompt"], datatype="str", type="array",
                interactive=True, column_count=2, column_widths=["28%", "72%"], wrap=True, max_height=420,
                show_label=False, buttons=[], elem_id="compare-table", elem_classes="words-table",
            )  # fmt: skip
            with gr.Row(elem_classes="saving"):
                self.upload = gr.UploadButton(
                    "Load a prompts file", file_types=[".json"], size="md", elem_id="compare-upload", min_width=150
                )
                self.name = gr.Textbox(
                    placeholder="a name for your set", show_label=False, container=False, max_lines=1,
                    elem_id="compare-set-name", min_width=150,
                )  # fmt: skip
                self.save_button = gr.Button("Save as a set", size="md", elem_id="compare-save-set", min_width=120)

    def wire(self, adapter: gr.Dropdown) -> None:
        filled = [self.set, self.table, self.known, self.prompts]
        self.set.input(self.take, [self.set, adapter], filled, **QUIET)
        adapter.change(self.follow, [self.set, adapter], filled, **QUIET)
        self.upload.upload(self.load, self.upload, filled, **QUIET)
        self.table.change(self.read, [self.table, self.known], self.prompts, **QUIET)
        self.save_button.click(
            self.save, [self.name, self.table, self.known], [self.set, self.name], **QUIET
        )  # fmt: skip

    def view(self) -> Updates:
        return {self.set: Made(list_own(), lambda own: gr.update(choices=choices(own)))}

    def take(self, name: str | None, adapter: str | None) -> Any:
        """The set of this name; where there is none, the notice says why, and the standard set takes its place."""
        try:
            return _filled(load_set(str(name), adapter or ""), str(name))
        except RequestError as error:
            show(error)
            return _filled(load_set(FIRST), FIRST)

    def follow(self, name: str | None, adapter: str | None) -> Any:
        """Another adapter has held out other prompts; every other set stays as it was edited."""
        return self.take(name, adapter) if name == Given.HELD_OUT else [gr.skip()] * 4

    @shows_errors
    def load(self, file: str) -> Any:
        path = Path(file)
        try:
            return _filled(read_prompts(path), None)
        except RequestError as error:
            # The upload's own place means nothing to who chose the file.
            raise RequestError(str(error).replace(str(path), path.name)) from None

    def read(self, table: list[list[object]], known: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """What the table asks; nothing where that cannot be asked, and Start says so."""
        try:
            return tuple(views.prompts_of(table, known))
        except RequestError:
            return ()

    @shows_errors
    def save(self, name: str, table: list[list[object]], known: Sequence[Prompt]) -> Any:
        slug = "-".join(name.lower().split())
        if not slug:
            raise RequestError("Write a name for your set first.")
        prompts = views.prompts_of(table, known)
        save_set(slug, prompts)
        gr.Info(f"{len(prompts)} prompts are kept under this name.", title="Saved")
        return [gr.update(choices=choices(list_own()), value=slug), ""]


def choices(own: Sequence[str]) -> list[tuple[str, str]]:
    """(label, name) of every set: the given ones with their sizes, the adapter's, and the person's own."""
    given = [(f"{words} {len(load_set(name))}", name.value) for name, words in WORDS.items()]
    return [*given, (HELD_OUT, Given.HELD_OUT.value), *((name, name) for name in own)]


def _filled(prompts: Sequence[Prompt], name: str | None) -> list[Any]:
    return [gr.update(value=name), views.prompt_table(prompts), tuple(prompts), tuple(prompts)]
