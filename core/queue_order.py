"""Whose request the engine takes next. Knows what is asked for, and nothing of how it is done."""

from collections.abc import Iterable

from core.wire import Request

# What a page asks by itself whenever its form changes, and what a person sits and waits for.
PLAN, TALK = "preview", ("answer", "stream")


def next_of(waiting: Iterable[Request]) -> Request | None:
    """Whoever came first, but a plan comes after all others."""
    return min(waiting, key=lambda request: request.verb == PLAN, default=None)


def next_talk(waiting: Iterable[Request]) -> Request | None:
    """The next, where it asks for an answer: all that a plan lets in while it measures, since the base must stay."""
    request = next_of(waiting)
    return request if request and request.verb in TALK else None
