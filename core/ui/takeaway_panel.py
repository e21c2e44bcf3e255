"""What can be taken along of a finished adapter: one merged model, its card, and both of them on the Hub."""

from typing import Any

import gradio as gr

from core import history, model_card, push, runs
from core.client import EngineClient
from core.errors import PlaygroundError
from core.ui.notices import shows_errors
from core.ui.parts import QUIET, hide
from core.ui.views import as_text

HOW = "The adapter itself lies in `models/finetuned/{}/adapter`; plain PEFT loads it on its base."
ADAPTER, MERGED = "The adapter", "The merged model"
PUSHING = "Pushing: it takes as long as the upload does."


class TakeawayPanel:
    """`reset` fills `outputs` for the run that is picked; its name is the value of the State handed to `wire`."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client

    def build(self) -> None:
        with gr.Accordion("Take it with you", open=False, visible=False, elem_id="takeaway") as self.box:
            self.how = gr.Markdown("")
            with gr.Row(elem_classes="actions"):
                self.merge_button = gr.Button("Merge into one model", elem_id="merge")
            self.merged = gr.Markdown("", elem_id="merged")
            with gr.Row():
                self.to = gr.Textbox(label="Name on the Hub", placeholder="owner/name", elem_id="push-to")
                self.what = gr.Radio([ADAPTER, MERGED], value=ADAPTER, label="What is pushed", elem_id="push-what")
                self.is_public = gr.Checkbox(label="Public", info="Else only you see it.", elem_id="push-public")
            with gr.Row(elem_classes="actions"):
                self.push_button = gr.Button("Push to the Hub", elem_id="push")
            with gr.Column(visible=False, elem_id="pushing", elem_classes="asking") as self.asking:
                self.question = gr.Markdown("")
                with gr.Row(elem_classes="actions"):
                    self.really = gr.Button("Really push", variant="primary", elem_id="really-push")
                    self.let_be = gr.Button("Let it be")
            self.pushed = gr.Markdown("", elem_id="pushed")
            with gr.Accordion("Model card", open=False):
                self.card = gr.Code("", language="markdown", interactive=False, show_label=False, wrap_lines=True,
                                    max_lines=24, buttons=["copy", "download"], elem_id="model-card")  # fmt: skip
        self.outputs = [self.box, self.how, self.merged, self.asking, self.pushed, self.card]

    def reset(self, name: str) -> list[Any]:
        if not runs.has_adapter(name):
            return [gr.update(visible=False), "", "", gr.update(visible=False), "", ""]
        card = model_card.card(*history.record(name))
        return [gr.update(visible=True), HOW.format(name), "", gr.update(visible=False), "", card]

    def wire(self, picked: gr.State) -> None:
        self.merge_button.click(
            self.merge, picked, self.merged, **QUIET | {"show_progress": "full", "show_progress_on": self.merged}
        )
        asked = [picked, self.to, self.what, self.is_public]
        self.push_button.click(self.ask, asked, [self.asking, self.question, self.pushed], **QUIET)
        self.let_be.click(hide, None, self.asking, **QUIET)
        self.really.click(self.begin, None, [self.asking, self.pushed], **QUIET).then(
            self.push, asked, self.pushed, **QUIET
        )

    # --- handlers -----------------------------------------------------------------------------------------

    @shows_errors
    def merge(self, name: str, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008 (Gradio finds it so)
        merged = self.client.merge(name, lambda done, total: progress((done, total), desc="Merging"))
        return f"**Merged** into {as_text(merged.folder)}. {as_text(merged.sentence)}"

    @shows_errors
    def ask(self, name: str, to: str | None, what: str, is_public: bool) -> Any:
        """What would be pushed, who would see it, and whether that is meant."""
        push.check(to or "")
        if what == MERGED:
            push.merged_files(name)
        pushed = MERGED if what == MERGED else ADAPTER
        seen = "**Everybody will see it.**" if is_public is True else "Only you will see it."
        question = f"**Push {pushed.lower()} of {as_text(name)} to {as_text(to or '')}?** {seen}"
        return [gr.update(visible=True), question, ""]

    def begin(self) -> Any:
        return [gr.update(visible=False), PUSHING]

    @shows_errors
    def push(self, name: str, to: str | None, what: str, is_public: bool) -> str:
        try:
            return f"**Pushed** to {as_text(push.push(name, to or '', what == MERGED, is_public is True))}"
        except PlaygroundError as error:  # said in the place of what was awaited
            return as_text(str(error))
