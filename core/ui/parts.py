"""What every look at the page has in common: how often, as which event, and that only what changed is sent.

A page looks at a run every second. Sending everything each time would redraw plots, close menus and
lose selected text, so each session remembers what it was last shown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from core.errors import RequestError

# By component: its new value, or a `gr.update`.
Updates = dict[Any, Any]

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
class Made:
    """An update that is made, `of` a plain value, only when that value is another than before."""

    of: Any
    make: Callable[[Any], Any] = field(compare=False)


def changes(seen: gr.State, view: Mapping[Any, Any], before: Mapping[int, Any] | None) -> Updates:
    """What of the view a session was not shown `before`; and for `seen`, all that it has been shown by then."""
    known = before or {}
    new = {part: value for part, value in view.items() if part._id not in known or known[part._id] != value}
    updates = {part: _sent(value) for part, value in new.items()}
    return {seen: {**known, **{part._id: value for part, value in new.items()}}} | updates


def _sent(value: Any) -> Any:
    if isinstance(value, Made):
        return value.make(value.of)
    # Gradio takes an update's value out of it, and what is remembered has to keep its own.
    return dict(value) if isinstance(value, dict) else value


def picked(event: gr.SelectData) -> str:
    """The first cell of the row that was clicked, as text; RequestError where whoever asks has clicked none."""
    row = event.row_value
    if not isinstance(row, list) or not row:
        raise RequestError("Click a row of the table.")
    return str(row[0])


def reveal() -> Any:
    return gr.update(visible=True)


def hide(*_: Any) -> Any:
    return gr.update(visible=False)
