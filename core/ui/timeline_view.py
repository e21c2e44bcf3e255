"""Watch it learn: what base answers to the pinned prompts, and what the run answers at each of its looks.

The slider's 0 is base, its end the newest look; there it follows the run, anywhere else it stays where it was put.
"""

import math
from collections.abc import Mapping
from typing import Any

import gradio as gr

from core import runs
from core.diagnostics import word_distance
from core.runs import Run
from core.settings import checked_pinned
from core.timeline import Look, Timeline
from core.ui import run_files
from core.ui.compare_views import DIFF_COLOURS, ONLY_BASE, ONLY_TUNED, word_diff
from core.ui.notices import shows_errors
from core.ui.parts import LOOK
from core.ui.views import count

NOTHING_WATCHED = "Nothing was watched in this run: it made no look."
Pieces = list[tuple[str, str | None]]


class TimelineView:
    """`news` is a part of the run's view; whenever it changes, each session shows what is new to it."""

    def build(self) -> None:
        with gr.Column(elem_classes="card", elem_id="watch"):
            gr.Markdown("### Watch it learn")
            self.words = gr.Markdown("", elem_id="watch-words")
            with gr.Column(visible=False) as self.looks:
                with gr.Row():
                    self.prompt = gr.Dropdown([], label="Prompt", elem_id="watch-prompt", scale=3)
                    self.at = gr.Slider(0, 1, 0, step=1, label="Look (0 is base)", elem_id="watch-at", scale=2)
                with gr.Row(equal_height=True):
                    self.base, self.now = _response("base", ONLY_BASE), _response("now", ONLY_TUNED)
        # The run that this session was shown last, and how many looks of it.
        self.seen = gr.State(("", 0))
        self.news = gr.State(None)

    def news_of(self, run: Run) -> list[Any]:
        """What is shown differs with these: the run, whether it goes on, and its timeline."""
        return [run.name, run.is_alive, run.steps, *run_files.stamp(run.name, "timeline.jsonl")]

    def wire(self, shown: gr.State) -> None:
        view: dict[str, Any] = {
            "fn": self.show, "inputs": [shown, self.prompt, self.at, self.seen],
            "outputs": [self.seen, self.words, self.looks, self.prompt, self.at, self.base, self.now], **LOOK,
        }  # fmt: skip
        gr.on([self.news.change, self.prompt.input, self.at.input], **view)

    @shows_errors
    def show(self, name: str, prompt: str | None, at: float, seen: tuple[str, int]) -> Any:
        """The run's looks; another run begins with its newest, and a slider at its end goes on to it."""
        if not name:
            return gr.skip()
        run, timeline = runs.read_run(name), run_files.watched(name)
        num_looks, num_seen = len(timeline.looks), seen[1] if seen[0] == name else 0
        if not num_looks:
            return [(name, 0), waiting_words(run, run_files.config(name)), gr.update(visible=False), *[gr.skip()] * 4]
        chosen = next((k for k in range(len(timeline.prompts)) if num_seen and str(k) == prompt), 0)
        where = next((k for k in range(min(num_seen, num_looks)) if k == at), num_looks)
        before, after = sides(timeline, chosen, where)
        return [
            (name, num_looks), look_words(timeline, chosen, where, run.is_alive), gr.update(visible=True),
            gr.skip() if num_seen else gr.update(choices=_choices(timeline), value=str(chosen)),
            # A slider that is being moved is not moved back to where it was a moment ago.
            gr.skip() if num_seen == num_looks else gr.update(maximum=num_looks, value=where),
            before, gr.update(value=after, label=side_label(timeline, where)),
        ]  # fmt: skip


def _choices(timeline: Timeline) -> list[tuple[str, str]]:
    return [(prompt, str(k)) for k, prompt in enumerate(timeline.prompts)]


def _response(name: str, mark: str) -> gr.HighlightedText:
    label = f"Base ({mark}: words it loses)" if mark == ONLY_BASE else "Now"
    return gr.HighlightedText(
        label=label, color_map=DIFF_COLOURS, show_legend=False, elem_id=f"watch-{name}", elem_classes="watched",
        min_width=320,
    )  # fmt: skip


def first_look(steps: int, looks: int) -> int:
    """The step after which a run looks first: its looks stand evenly apart, and the last one at its end."""
    return math.ceil(steps / looks)


def waiting_words(run: Run, config: Mapping[str, Any]) -> str:
    """What stands there while there is no look yet, in Markdown."""
    looks, pinned = config["settings"].get("looks", 0) if config else 0, checked_pinned(config.get("pinned"))
    if not run.is_alive or (config and not (looks and pinned)):
        return NOTHING_WATCHED
    when = f"after step {first_look(run.steps, looks)}" if run.steps and looks else "once it trains"
    return (
        f"Base answers {count(len(pinned), 'pinned prompt')} before the first step, and the policy at every look. "
        f"The first look comes {when}."
    )


def sides(timeline: Timeline, prompt: int, at: int) -> tuple[Pieces, Pieces]:
    """Base's response and the one at look `at`, each with the words marked that the other does not say."""
    base, now = timeline.base[prompt], _responses(timeline, at)[prompt]
    dropped = [(text, ONLY_BASE if mark else None) for text, mark in word_diff(now, base) if mark != ONLY_BASE]
    added = [(text, mark) for text, mark in word_diff(base, now) if mark != ONLY_BASE]
    return dropped, added


def _responses(timeline: Timeline, at: int) -> tuple[str, ...]:
    return timeline.looks[at - 1].responses if at else timeline.base


def side_label(timeline: Timeline, at: int) -> str:
    if not at:
        return "Base"
    return f"After step {timeline.looks[at - 1].step} ({ONLY_TUNED}: words that are new)"


def look_words(timeline: Timeline, prompt: int, at: int, is_alive: bool) -> str:
    """Which look it is and how far its responses are from base's, in Markdown."""
    of = f"of {len(timeline.looks)}{' so far' if is_alive else ''}"
    if not at:
        return f"**Base**, before the first step. Move the slider to see the {count(len(timeline.looks), 'look')}."
    look: Look = timeline.looks[at - 1]
    share = word_distance(timeline.base[prompt], look.responses[prompt])
    every = f"; over all {len(timeline.prompts)} pinned prompts {look.moved:.0%}" if len(timeline.prompts) > 1 else ""
    return f"**Look {at} {of}**, after step {look.step}: {share:.0%} of words differ from base{every}."
