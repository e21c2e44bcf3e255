"""Train, second part: one run, live or done, and what can be done with it.

Shows what stands on disk, so that a reload, a second tab or another day shows the same. Curves, timeline, advice and
report are files of their own; here is how they stand together, and every button.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from core import runs
from core.client import EngineClient, RunRequest
from core.errors import RequestError
from core.runs import Phase, Run, RunStatus
from core.ui import next_run, run_files, run_views
from core.ui.coach_cards import CoachCards
from core.ui.curve_plots import CurvePlots
from core.ui.notices import empty, shows_errors
from core.ui.parts import QUIET, Part
from core.ui.report_card import ReportCard
from core.ui.timeline_view import TimelineView

NO_RUN = empty("No run yet.", "Choose data under Configure and press Start training: on the starter data it takes "
               "a few minutes.")  # fmt: skip
STOPPING = "It stops after this step, and what is trained is kept."
DISCARDING = "It stops after this step, and nothing of it is kept."
SURE = "**Discard this run?** Its adapter, its curves and its checkpoints are deleted. Stop and keep would keep them."
OUTDATED = "The run has gone on, and this advice no longer stands. Look at the cards again."


class RunPanel:
    """`parts` show a run's `values`, in the same order. `leads` are the buttons that fill in the form for a next run,
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
        self.parts = self._parts()
        self.apply_buttons = self.coach.buttons
        self.lead_inputs = [self.shown, self.coach.advised]
        self.leads: list[tuple[gr.Button, Callable[[str, list[str]], RunRequest]]] = [
            (self.again, self.again_request), (self.try_changes, self.changed_request),
            *((button, _CardLead(number).request) for number, button in enumerate(self.apply_buttons)),
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

    def _parts(self) -> list[Part]:
        words = (self.shown, self.title, self.line, self.phases, self.bar, self.outcome)
        buttons = (self.pause, self.go_on, self.stop, self.discard, self.skip, self.compare, self.chat, self.resume,
                   self.again, self.try_changes)  # fmt: skip
        return [
            *(Part(component, _as_is) for component in words),
            *(Part(button, _visible) for button in buttons),
            # Another run, or its end, takes the question away.
            Part(self.asking, lambda _: gr.update(visible=False)),
            Part(self.pictures, _visible),
            *self.coach.parts, *self.report.parts,
            # Last, so that what follows them finds the rest in place.
            Part(self.curves.news, _as_is), Part(self.timeline.news, _as_is),
        ]  # fmt: skip

    def values(self, run: Run | None) -> list[Any]:
        """What the parts are to show of the run."""
        if run is None:
            return ["", NO_RUN, "", "", run_views.bar(0), "", *[False] * 10, None, False, *self.coach.values([]),
                    *self.report.values(None), None, None]  # fmt: skip
        rows, cards = run_files.rows(run.name), run_files.cards(run)
        words = [run.name, run_views.run_title(run), run_views.run_line(run, rows[-1] if rows else None),
                 run_views.phase_chips(run), run_views.bar(run_views.run_share(run)),
                 run_views.outcome_words(run)]  # fmt: skip
        return [
            *words, *offered(run, runs.has_adapter(run.name), bool(next_run.all_changes(cards))),
            [run.name, run.is_alive], True, *self.coach.values(cards), *self.report.values(run),
            self.curves.news_of(run), self.timeline.news_of(run),
        ]  # fmt: skip

    def wire(self, look: dict[str, Any]) -> None:
        """Every button is followed by the same view that the timer shows."""
        acts = ((self.pause, self.pause_run), (self.go_on, self.go_on_run), (self.stop, self.stop_run),
                (self.skip, self.skip_trait_count))  # fmt: skip
        for button, act in acts:
            button.click(act, None, None, **QUIET).then(**look)
        self.resume.click(self.resume_run, self.shown, None, **QUIET).then(**look)
        self.discard.click(self.ask, None, self.asking, **QUIET)
        self.keep.click(self.let_be, None, self.asking, **QUIET)
        self.really.click(self.discard_run, None, self.asking, **QUIET).then(**look)
        self.curves.wire(self.shown)
        self.timeline.wire(self.shown)

    # --- handlers -----------------------------------------------------------------------------------------

    @shows_errors
    def pause_run(self) -> None:
        self.client.pause_run()

    @shows_errors
    def go_on_run(self) -> None:
        self.client.go_on_run()

    @shows_errors
    def stop_run(self) -> None:
        self.client.stop_run()
        gr.Info(STOPPING, title="Stopping")

    @shows_errors
    def skip_trait_count(self) -> None:
        self.client.skip_trait_count()

    @shows_errors
    def resume_run(self, name: str) -> None:
        self.client.resume_run(name)

    def ask(self) -> Any:
        return gr.update(visible=True)

    def let_be(self) -> Any:
        return gr.update(visible=False)

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


class _CardLead:
    """The button of one card. Gradio's injection wants a bound method, and each button has its own card."""

    def __init__(self, number: int) -> None:
        self.number = number

    def request(self, shown: str, advised: list[str]) -> RunRequest:
        """With what the card says that was on the screen, not what has taken its place since."""
        standing = {card.rule: card for card in run_files.cards(runs.read_run(shown))}
        card = standing.get(advised[self.number]) if self.number < len(advised) else None
        if card is None:
            raise RequestError(OUTDATED)
        return next_run.request_of(shown, card.change)


def offered(run: Run, has_adapter: bool, is_advised: bool) -> list[bool]:
    """Whether each button is there: pause, go on, stop, discard, skip, compare, chat, resume, again, try changes."""
    is_usable = has_adapter and not run.is_alive
    is_training = run.status is RunStatus.RUNNING and run.phase == Phase.TRAINING
    is_counting = run.is_alive and run.phase == Phase.TRAIT
    return [
        is_training, run.status is RunStatus.PAUSED, run.is_alive and not is_counting, run.is_alive, is_counting,
        is_usable, is_usable, run_views.is_resumable(run), is_usable, is_advised and not run.is_alive,
    ]  # fmt: skip


def _button(words: str, elem_id: str, **looks: Any) -> gr.Button:
    return gr.Button(words, visible=False, elem_id=elem_id, **looks)


def _as_is(value: Any) -> Any:
    return value


def _visible(is_there: bool) -> Any:
    return gr.update(visible=is_there)
