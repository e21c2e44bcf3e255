"""The Compare tab: a blind comparison from Start to its results, and a place to just try a prompt.

Puts its parts together. One view, made from the comparison's journal and the worker, feeds the buttons,
the timer and a fresh page alike, so a reload or a second tab finds everything as it stands.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from core import runs
from core.prompts import Prompt
from core.ui import compare_views as views
from core.ui.compare_scene import Scene, look
from core.ui.compare_setup import CompareSetup
from core.ui.compare_worker import ComparisonWorker
from core.ui.notices import record, shows_errors
from core.ui.parts import BUSY_S, IDLE_S, LOOK, QUIET, TICK, Part, changes, components
from core.ui.results_panel import ResultsPanel
from core.ui.try_prompt import TryPrompt
from core.ui.vote_panel import VotePanel

if TYPE_CHECKING:
    from core.client import EngineClient
    from core.ui.page import Page


class CompareTab:
    def __init__(self, client: "EngineClient") -> None:
        self.client = client
        self.worker = ComparisonWorker(client, record)
        self.setup = CompareSetup(client, self.worker)
        self.voting = VotePanel(self.worker)
        self.results = ResultsPanel(self.worker)
        self.trying = TryPrompt(client)

    def build(self) -> None:
        self.seen = gr.State(None)
        self.timer = gr.Timer(IDLE_S)
        with gr.Tabs(elem_id="compare-tabs"):
            with gr.Tab("Blind comparison", id="blind"):
                self.setup.build()
                self._build_progress()
                self.voting.build()
                self.results.build()
            with gr.Tab("Try a prompt", id="try"):
                self.trying.build()
        self.parts = [
            Part(self.progress, lambda value: gr.update(value=value, visible=bool(value))),
            Part(self.sentence, lambda value: gr.update(value=value, visible=bool(value))),
            Part(self.stop, lambda value: gr.update(visible=value[0], interactive=value[1])),
            Part(self.go_on_button, lambda value: gr.update(visible=value)),
            *self.setup.parts,
            *self.voting.parts,
            *self.results.parts,
            Part(self.timer, lambda value: gr.update(value=value)),
        ]
        self.arrivals: list[Component] = [self.setup.adapter]
        self.shown = components(self.seen, self.parts)

    def _build_progress(self) -> None:
        with gr.Row(elem_id="compare-progress"):
            with gr.Column(scale=5):
                self.sentence = gr.Markdown(views.NOTHING_YET, elem_id="compare-sentence")
                self.progress = gr.HTML("", visible=False, elem_id="compare-bar")
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="compare-stop", scale=1, min_width=90)
            self.go_on_button = gr.Button("Go on", visible=False, elem_id="compare-go-on", scale=1, min_width=90)

    def wire(self, app: "Page") -> None:
        self.setup.wire()
        self.results.wire()
        self.trying.wire(app)
        setup, voting = self.setup, self.voting
        look_again: dict[str, Any] = {
            "fn": self.view, "inputs": [self.seen, setup.adapter, setup.mode, setup.num_prompts],
            "outputs": self.shown, **LOOK,
        }  # fmt: skip
        app.demo.load(**look_again)
        gr.on(
            [app.tabs.change, setup.adapter.input, setup.mode.input, setup.num_prompts.change],
            **look_again,
        )
        self.timer.tick(**(look_again | TICK))
        started = setup.start_button.click(
            self.start, [setup.adapter, setup.mode, setup.table, setup.known], inputs_kwargs=setup.sampling, **QUIET
        )
        voted = [button.click(self.vote, [button, voting.prompt_id], **QUIET) for button in voting.buttons]
        undone = voting.undo_button.click(self.undo, **QUIET)
        for event in (started, undone, *voted, self.stop.click(self.halt, **QUIET)):
            event.then(**look_again)
        self.go_on_button.click(self.go_on, **QUIET).then(**look_again)

    def arrive(self, adapter: str = "") -> Any:
        """The adapters as they are now, with `adapter` chosen where one is named; the rest follows by itself."""
        return gr.update(choices=runs.list_adapters(), **({"value": adapter} if adapter else {}))

    @shows_errors
    def view(self, seen: list[Any] | None, adapter: str | None, mode: str, num_prompts: int) -> Any:
        """The whole tab as things stand; only what this session has not seen is sent."""
        adapters = runs.list_adapters()
        chosen = adapter if adapter in adapters else next(iter(adapters), None)
        scene = look(self.worker)
        values = [
            *_progress(scene, bool(adapters)),
            *self.setup.values(adapters, chosen, mode, num_prompts, scene is not None and scene.is_unfinished),
            *self.voting.values(scene),
            *self.results.values(scene.results if scene else None),
            BUSY_S if scene and scene.is_running else IDLE_S,
        ]
        return changes(self.parts, values, seen)

    @shows_errors
    def start(
        self, adapter: str | None, mode: str, table: list[list[object]], known: Sequence[Prompt], **sampling: float
    ) -> None:
        self.setup.start(adapter, mode, table, known, **sampling)

    @shows_errors
    def halt(self) -> None:
        self.worker.stop()

    @shows_errors
    def go_on(self) -> None:
        self.setup.go_on()

    @shows_errors
    def vote(self, label: str, prompt_id: str) -> None:
        self.voting.vote(label, prompt_id)

    @shows_errors
    def undo(self) -> None:
        self.voting.undo()


def _progress(scene: Scene | None, has_adapters: bool) -> list[Any]:
    """The bar, the sentence, Stop as (there, enabled), and whether Go on is there."""
    if scene is None:
        return ["", views.NOTHING_YET if has_adapters else "", (False, False), False]
    bar = views.bar(scene.progress.share) if scene.progress else ""
    stop = (scene.is_running, not scene.is_stopping)
    return [bar, views.standing_sentence(scene), stop, scene.can_go_on]
