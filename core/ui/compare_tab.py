"""The Compare tab: not written yet; this is its border towards the page."""

from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

if TYPE_CHECKING:
    from core.client import EngineClient
    from core.ui.page import Page


class CompareTab:
    def __init__(self, client: "EngineClient") -> None:
        self.client = client

    def build(self) -> None:
        self.adapter = gr.Dropdown(label="Adapter", choices=[], interactive=True)
        self.arrivals: list[Component] = [self.adapter]

    def wire(self, app: "Page") -> None:
        """Cross-tab jumps and the timer: app.timer, app.demo, app.tabs."""

    def arrive(self, adapter: str = "") -> Any:
        """Updates for `arrivals`."""
        return gr.skip()
