"""Train, second part: one run, live or done, and what can be done with it.

Shows what stands on disk, so that a reload, a second tab or another day shows the same. Curves, timeline, advice and
report are files of their own; here is how they stand together, and every button.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr

from core import runs
from core.client import EngineClient, RunRequest
from core.coach import Card
from core.errors import RequestError
from core.runs import Phase, Run, RunStatus
from core.ui import next_run, run_files, run_views
from core.ui.coach_cards import CoachCards
from core.ui.curve_plots import CurvePlots
from core.ui.notices import shows_errors
from core.ui.parts import QUIET, Made, Updates, hide, reveal
from core.ui.report_card import ReportCard
from core.ui.timeline_view import TimelineView

NO_RUN = (
    "**No run yet.** Choose data under Configure and press Start training: on the starter data it takes a few minutes."
)
STOPPING = "It stops after this step, and what is trained is kept."
DISCARDING = "It stops after this step, and nothing of it is kept."
SURE = "**Discard this run?** Its adapter, its curves and its checkpoints are deleted. Stop and keep would keep them."
OUTDATED = "The run has gone on, and this advice no longer stands. Look at the cards again."


class RunPanel:
    """`outputs` are all that a run's `view` fills. `leads` are the buttons that fill in the form for a next run,
    and what gives its request, from the values of `lead_inputs`."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.coach = CoachCards()
        self.curves = CurvePlots()
        self.timeline = TimelineView()
        self.report = ReportCard()

    def build(self) -> None:
        with gr.Row(elem_classes="running"):
            with gr.Column(scale=3, min_width=340, elem_classes="card", elem_id="run"):
                self.title = gr.Markdown(NO_RUN, elem_id="run-title")
                self.phases = gr.HTML("", elem_id="run-phases", padding=False)
                self.line = gr.Markdown("", elem_id="run-line")
                self.bar = gr.HTML(run_views.bar(0), elem_id="run-bar", padding=False)
                self._build_buttons()
            with gr.Column(scale=2, min_width=320, elem_classes="card", elem_id="outcome"):
                self._build_outcome()
        self.coach.build()
        with gr.Column(visible=False, elem_id="run-pictures") as self.pictures:
            self.curves.build()
            self.timeline.build()
        self.report.build()
        self.shown = gr.State("")
        self.outputs = list(self.view(None))
        self.lead_inputs = [self.shown, self.coach.advised]
        self.leads: list[tuple[gr.Button, Callable[[str, list[str]], RunRequest]]] = [
            (self.again, self.again_request), (self.try_changes, self.changed_request),
            *((button, partial(self.card_request, number)) for number, button in enumerate(self.coach.buttons)),
        ]  # fmt: skip

    def _build_buttons(self) -> None:
        with gr.Row(elem_classes="actions"):
            self.pause = _button("Pause", "pause")
            self.go_on = _button("Go on", "go-on", variant="primary")
            self.stop = _button("Stop and keep", "stop", variant="stop")
            self.discard = _button("Discard", "discard")
            self.skip = _button("Skip the trait count", "skip-trait")
        with gr.Column(visible=False, elem_id="discarding") as self.asking:
            gr.Markdown(SURE)
            with gr.Row(elem_classes="actions"):
                self.really = gr.Button("Really discard", variant="stop", elem_id="really-discard")
                self.keep = gr.Button("Let it be", elem_id="keep")

    def _build_outcome(self) -> None:
        gr.Markdown("### Result")
        self.outcome = gr.Markdown("", elem_id="outcome-words")
        with gr.Row(elem_classes="actions"):
            self.compare = _button("Compare now", "compare-now", variant="primary")
            self.chat = _button("Chat now", "chat-now")
            self.resume = _button("Resume", "resume", variant="primary")
            self.again = _button("Train again from here", "train-again")
            self.try_changes = _button("Try with these changes", "try-changes")

    def view(self, run: Run | None) -> Updates:
        cards = run_files.cards(run) if run else ()
        return {
            **self._words(run),
            **{button: gr.update(visible=is_there) for button, is_there in self._offers(run, cards).items()},
            # Another run, or its end, takes the question away.
            self.asking: Made(run and (run.name, run.is_alive), hide),
            self.pictures: gr.update(visible=run is not None),
            **self.coach.view(cards), **self.report.view(run),
            # Last, so that what follows them finds the rest in place.
            self.curves.news: run and self.curves.news_of(run), self.timeline.news: run and self.timeline.news_of(run),
        }  # fmt: skip

    def _words(self, run: Run | None) -> Updates:
        if run is None:
            return {self.shown: "", self.title: NO_RUN, self.line: "", self.phases: "", self.bar: run_views.bar(0),
                    self.outcome: ""}  # fmt: skip
        rows = run_files.rows(run.name)
        return {
            self.shown: run.name, self.title: run_views.run_title(run),
            self.line: run_views.run_line(run, rows[-1] if rows else None), self.phases: run_views.phase_chips(run),
            self.bar: run_views.bar(run_views.run_share(run)), self.outcome: run_views.outcome_words(run),
        }  # fmt: skip

    def _offers(self, run: Run | None, cards: Sequence[Card]) -> dict[gr.Button, bool]:
        """Whether each button is there."""
        is_alive = run is not None and run.is_alive
        is_training = run is not None and run.status is RunStatus.RUNNING and run.phase == Phase.TRAINING
        is_counting = run is not None and is_alive and run.phase == Phase.TRAIT
        is_usable = run is not None and not is_alive and runs.has_adapter(run.name)
        return {
            self.pause: is_training, self.go_on: run is not None and run.status is RunStatus.PAUSED,
            self.stop: is_alive and not is_counting, self.discard: is_alive, self.skip: is_counting,
            self.compare: is_usable, self.chat: is_usable, self.resume: run_views.is_resumable(run),
            self.again: is_usable, self.try_changes: bool(next_run.all_changes(cards)) and not is_alive,
        }  # fmt: skip

    def wire(self, look: dict[str, Any]) -> None:
        """Every button is followed by the same view that the timer shows."""
        acts = ((self.pause, self.client.pause_run, None), (self.go_on, self.client.go_on_run, None),
                (self.stop, self.stop_run, None), (self.skip, self.client.skip_trait_count, None),
                (self.resume, self.client.resume_run, self.shown))  # fmt: skip
        for button, act, of in acts:
            button.click(shows_errors(act), of, None, **QUIET).then(**look)
        self.discard.click(reveal, None, self.asking, **QUIET)
        self.keep.click(hide, None, self.asking, **QUIET)
        self.really.click(self.discard_run, None, self.asking, **QUIET).then(**look)
        self.curves.wire(self.shown)
        self.timeline.wire(self.shown)

    # --- handlers -----------------------------------------------------------------------------------------

    def stop_run(self) -> None:
        self.client.stop_run()
        gr.Info(STOPPING, title="Stopping")

    @shows_errors
    def discard_run(self) -> Any:
        self.client.discard_run()
        gr.Info(DISCARDING, title="Discarding")
        return gr.update(visible=False)

    # --- the next run -------------------------------------------------------------------------------------

    def again_request(self, shown: str, _: list[str]) -> RunRequest:
        return next_run.request_of(shown, is_from_adapter=True)

    def changed_request(self, shown: str, _: list[str]) -> RunRequest:
        return next_run.request_of(shown, next_run.all_changes(run_files.cards(runs.read_run(shown))))

    def card_request(self, number: int, shown: str, advised: list[str]) -> RunRequest:
        """With what the card says that was on the screen, not what has taken its place since."""
        standing = {card.rule: card for card in run_files.cards(runs.read_run(shown))}
        card = standing.get(advised[number]) if number < len(advised) else None
        if card is None:
            raise RequestError(OUTDATED)
        return next_run.request_of(shown, card.change)


def _button(words: str, elem_id: str, **looks: Any) -> gr.Button:
    return gr.Button(words, visible=False, elem_id=elem_id, **looks)
