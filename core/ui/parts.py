"""Parts of a view: which component shows a plain value, and how; only what changed is sent.

A page looks at a run every second. Sending everything each time would redraw plots, close menus and
lose selected text, so each session remembers what it was last shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

# How often a tab looks: while something moves, and otherwise. Beside a run, a look a second costs the browser some 14 %
# and the server some 12 % of a processor that the run could use.
BUSY_S, IDLE_S = 1.0, 4.0

# An event of ours: no veil over what it updates, and no place in the open API. It has progress to show on nothing: what
# ever had is searched for in the whole page at every event, which took a third of a processor while a run went on.
QUIET: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": [], "api_visibility": "private"}
# One that shows how things stand: what comes while it is under way is not dropped, but looked at after it. One by one,
# because of two the older may be remembered first and arrive last, and the page would stay at what it says.
LOOK: dict[str, Any] = {**QUIET, "trigger_mode": "always_last", "concurrency_limit": 1}
# A timer's look. Any other mode waits for the look before it, and one whose answer is lost on the way, as a browser
# on a busy machine loses some, would be waited for until the page is loaded again.
TICK: dict[str, Any] = {**QUIET, "trigger_mode": "multiple", "concurrency_limit": 1}


@dataclass(frozen=True)
class Part:
    """`render` turns the plain, comparable value of a view into the component's update."""

    component: Component
    render: Callable[[Any], Any]


def changes(parts: Sequence[Part], values: Sequence[Any], seen: Sequence[Any] | None) -> list[Any]:
    """The values, to be remembered as seen, followed by one update a part: nothing where it stayed the same."""
    before = seen or [object()] * len(parts)
    updates = [
        gr.skip() if value == old else part.render(value)
        for part, value, old in zip(parts, values, before, strict=True)
    ]
    return [list(values), *updates]


def components(seen: gr.State, parts: Sequence[Part]) -> list[Component]:
    """The outputs that `changes` fills, in its order."""
    return [seen, *(part.component for part in parts)]
