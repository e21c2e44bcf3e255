"""The Compare tab: a blind comparison from Start to its results, and a place to just try a prompt.

Puts its parts together. One view, made from the comparison's journal and the worker, feeds the buttons,
the timer and a fresh page alike, so a reload or a second tab finds everything as it stands.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from core import runs
from core.compare import list_comparisons
from core.errors import RequestError
from core.judge import REASON_WORDS
from core.prompts import Prompt
from core.ui import compare_views as views
from core.ui.compare_scene import Scene, look
from core.ui.compare_setup import CompareSetup
from core.ui.compare_worker import ComparisonWorker
from core.ui.notices import record, shows_errors
from core.ui.parts import BUSY_S, IDLE_S, LOOK, QUIET, TICK, Made, Updates, changes, hide, reveal
from core.ui.results_panel import ResultsPanel
from core.ui.try_prompt import TryPrompt
from core.ui.vote_panel import VotePanel

if TYPE_CHECKING:
    from core.client import EngineClient
    from core.ui.page import Page

SETUP, CURRENT = "setup", "current"


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
        # Nothing is looked at before somebody comes here: the first look pays for the statistics' library.
        self.is_open = gr.State(False)
        self.timer = gr.Timer(IDLE_S)
        with gr.Tabs(selected=SETUP, elem_id="compare-tabs") as self.inner:
            with gr.Tab("Set up", id=SETUP):
                self.setup.build()
            with gr.Tab("Current comparison", id=CURRENT):
                self._build_progress()
                self.voting.build()
                self.results.build()
            with gr.Tab("Try a prompt", id="try"):
                self.trying.build()
        self.outputs: list[Component] = [*self._progress(None), *self.setup.outputs, *self.voting.outputs,
                                         *self.results.outputs, self.timer]  # fmt: skip
        self.arrivals: list[Component] = [self.is_open, self.inner, self.setup.adapter]

    def _build_progress(self) -> None:
        with gr.Row(elem_id="compare-progress"):
            with gr.Column(scale=5, min_width=320):
                self.title = gr.Markdown("", elem_id="compare-title")
                self.sentence = gr.Markdown(views.NOTHING_YET, elem_id="compare-sentence")
                self.progress = gr.HTML("", visible=False, elem_id="compare-bar")
            self.which = gr.Dropdown(
                [], label="Comparison", interactive=True, visible=False, elem_id="compare-which", scale=0, min_width=220
            )
            self.go_on_button = gr.Button("Go on", variant="primary", visible=False, elem_id="compare-go-on",
                                          scale=0, min_width=110)  # fmt: skip
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="compare-stop", scale=0, min_width=110)
            self.end = gr.Button("End here", visible=False, elem_id="compare-end", scale=0, min_width=110)
        with gr.Column(visible=False, elem_id="compare-ending", elem_classes="card") as self.ending:
            gr.Markdown(f"**End here and show the result?** {views.OVER_EARLY}")
            with gr.Row():
                self.end_now = gr.Button("Show the result now (counts as ended early)", elem_id="compare-end-now")
                self.not_yet = gr.Button("Not yet", elem_id="compare-not-yet")
        with gr.Row(elem_id="compare-retry", elem_classes="actions"):
            self.retries = {
                reason: (gr.Button(visible=False, size="md", elem_id=f"retry-{reason}"), gr.State(reason))
                for reason in REASON_WORDS
            }

    def wire(self, app: "Page") -> None:
        setup, voting = self.setup, self.voting
        look_again: dict[str, Any] = {
            "fn": self.view, "inputs": [self.seen, self.is_open, *setup.chosen], "inputs_kwargs": setup.sampling,
            "outputs": [self.seen, *self.outputs], **LOOK,
        }  # fmt: skip
        app.demo.load(self.settle, None, self.inner, **QUIET)
        chosen = [setup.adapter.input, setup.mode.input, setup.picker.prompts.change]
        turned = [slider.release for slider in setup.sampling.values()]
        gr.on([app.tabs.change, self.is_open.change, *chosen, *turned], **look_again)
        self.timer.tick(**(look_again | TICK))
        setup.picker.wire(setup.adapter)
        self.results.wire()
        self.trying.wire(app)
        started = setup.start_button.click(
            self.start, setup.form, self.inner, inputs_kwargs=setup.sampling, **QUIET
        )  # fmt: skip
        self.end.click(reveal, None, self.ending, **QUIET)
        self.not_yet.click(hide, None, self.ending, **QUIET)
        vote = shows_errors(voting.vote)
        acts = [
            started,
            self.which.input(shows_errors(self.worker.choose), self.which, **QUIET),
            voting.undo_button.click(shows_errors(voting.undo), voting.shown, **QUIET),
            self.stop.click(self.worker.stop, **QUIET),
            self.go_on_button.click(shows_errors(setup.go_on), **QUIET),
            self.end_now.click(self.end_early, **QUIET),
            *(button.click(vote, [button, voting.shown], **QUIET) for button in voting.buttons),
            *(button.click(self.retry, reason, **QUIET) for button, reason in self.retries.values()),
        ]
        for act in acts:
            act.then(**look_again)

    # --- handlers -----------------------------------------------------------------------------------------

    def arrive(self, adapter: str = "") -> Any:
        """The adapters as they are now, with `adapter` chosen where one is named; what waits is led to."""
        scene = look(self.worker)
        chosen = {"value": adapter} if adapter else {}
        where = SETUP if adapter else CURRENT if scene and scene.is_unfinished else None
        leads = gr.Tabs(selected=where) if where else gr.skip()
        return [True, leads, gr.update(choices=runs.list_adapters(), **chosen)]

    def settle(self) -> Any:
        """A fresh page finds the comparison of before, if there is one."""
        return gr.Tabs(selected=CURRENT if self.worker.current() else SETUP)

    @shows_errors
    def view(
        self, seen: dict[int, Any] | None, is_open: bool, adapter: str | None, mode: str, prompts: Sequence[Prompt],
        **drawn: float,
    ) -> Any:  # fmt: skip
        """The whole tab as things stand; only what this session has not seen is sent."""
        if not is_open:
            return gr.skip()
        adapters = runs.list_adapters()
        chosen = adapter if adapter in adapters else next(iter(adapters), None)
        scene = look(self.worker)
        is_unfinished = scene is not None and scene.is_unfinished
        view = {
            **self._progress(scene),
            **self.setup.view(adapters, chosen, mode, prompts, is_unfinished, drawn),
            **self.voting.view(scene),
            **self.results.view(scene),
            self.timer: gr.update(value=BUSY_S if scene and scene.is_running else IDLE_S),
        }
        return changes(self.seen, view, seen)

    def _progress(self, scene: Scene | None) -> Updates:
        sentence = views.standing_sentence(scene) if scene else views.NOTHING_YET
        bar = views.bar(scene.progress.share) if scene and scene.progress else ""
        begun = views.comparison_choices(list_comparisons()) if scene else []
        name, can_end, failed = (scene.name, scene.can_end, scene.failed) if scene else (None, False, {})
        retries = {button: views.retry_label(reason, failed[reason]) if reason in failed else ""
                   for reason, (button, _) in self.retries.items()}  # fmt: skip
        return {
            self.title: views.title(scene) if scene else "",
            self.which: gr.update(choices=begun, value=name, visible=len(begun) > 1),
            self.sentence: gr.update(value=sentence, visible=bool(sentence)),
            self.progress: gr.update(value=bar, visible=bool(bar)),
            self.stop: gr.update(visible=bool(scene and scene.is_running),
                                 interactive=bool(scene and not scene.is_stopping)),
            self.go_on_button: gr.update(visible=bool(scene and scene.can_go_on)),
            self.end: gr.update(visible=can_end),
            # Whatever the question was put to is over.
            self.ending: Made((name, can_end), hide),
            **{button: gr.update(value=label, visible=bool(label)) for button, label in retries.items()},
        }  # fmt: skip

    @shows_errors
    def start(
        self, adapter: str | None, mode: str, table: list[list[object]], known: Sequence[Prompt], **drawn: float
    ) -> Any:
        self.setup.start(adapter, mode, table, known, **drawn)
        return gr.Tabs(selected=CURRENT)

    @shows_errors
    def end_early(self) -> None:
        comparison = self.worker.current()
        if comparison is None or self.worker.is_running:
            raise RequestError("Stop the comparison first, then end it.")
        comparison.end_early()

    @shows_errors
    def retry(self, reason: str) -> None:
        comparison = self.worker.current()
        if comparison is None or self.worker.is_running:
            raise RequestError("There is nothing to ask again just now.")
        comparison.retry(reason)
        self.setup.go_on()
