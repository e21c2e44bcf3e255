"""The Train tab: what to train, how it goes, and what was trained before."""

from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

if TYPE_CHECKING:
    from core.client import EngineClient
    from core.ui.page import Page


class TrainTab:
    def __init__(self, client: "EngineClient") -> None:
        self.client = client

    def build(self) -> None:
        with gr.Tabs(selected="configure") as self.inner:
            gr.Tab("Configure", id="configure")
            gr.Tab("Current run", id="run")
            gr.Tab("History", id="history")
        self.arrivals: list[Component] = [self.inner]

    def wire(self, app: "Page") -> None:
        pass

    def arrive(self, adapter: str = "") -> Any:
        return gr.skip()

    def show_run(self) -> Any:
        return [gr.Tabs(selected="train"), gr.Tabs(selected="run")]
