"""What a chat template may take of the machine, being a program that somebody else wrote: its time, its memory.

A timer stops what goes on for long. What one operation makes out of a few letters no timer stops, so the sandbox that
transformers renders in is one without such operations.
"""

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import psutil
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

LIMIT_BYTES = 500_000_000
LOOK_S = 0.05
# Once it was told to stop, it is told again after this long: what it was doing may have swallowed it.
AGAIN_S = 1.0
# No width and no count of a template's own is larger.
MAX_NUMBER = 10_000
MAX_LENGTH = 1_000_000
TOO_MUCH = "more than a chat template needs"
NO_FORMATS = "{} on a text is not supported"


def _check_numbers(values: Iterator[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > MAX_NUMBER for value in values):
        raise MemoryError(TOO_MUCH)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # with what jinja has noted on it
    def checked(first: Any, *rest: Any, **named: Any) -> Any:
        _check_numbers(iter((*rest, *named.values())))
        return function(first, *rest, **named)

    return checked


class _Filters(dict[str, Callable[..., Any]]):
    """Bounds those that are put in afterwards too, as transformers does."""

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        super().__setitem__(name, _bounded(function))


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's own, with small numbers alone as widths and counts, and no format strings: their widths are in a text."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        stock, self.filters = self.filters, _Filters()
        for name in stock.keys() - {"format"}:
            self.filters[name] = stock[name]

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is not None:
            raise SecurityError(NO_FORMATS.format("str.format"))
        return None

    def call(self, context: Any, obj: Any, *args: Any, **named: Any) -> Any:
        if obj is not self.globals.get("range"):  # which has a limit of its own
            _check_numbers(iter((*args, *named.values())))
        return super().call(context, obj, *args, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        # Of numbers it is a remainder; of a text, or of its bytes, a format.
        if operator == "%" and not isinstance(left, int | float):
            raise SecurityError(NO_FORMATS.format("%"))
        if operator != "%" and _is_too_much(operator, left, right):
            raise MemoryError(TOO_MUCH)
        return super().call_binop(context, operator, left, right)


def _is_too_much(operator: str, left: Any, right: Any) -> bool:
    if operator == "**":
        return not isinstance(left, int | float) or not isinstance(right, int | float) or abs(right) > 64
    factors = [len(value) if hasattr(value, "__len__") else abs(value) for value in (left, right)]
    return factors[0] * factors[1] > MAX_LENGTH


# By this name the library makes the environment of every template.
chat_template_utils.ImmutableSandboxedEnvironment = Sandbox


@contextlib.contextmanager
def within(limit_s: float) -> Iterator[None]:
    """TimeoutError where the block takes longer, MemoryError where it takes more than LIMIT_BYTES.

    Works in the main thread of systems that have timers.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    end, process = time.monotonic() + limit_s, psutil.Process()
    taken = process.memory_info().rss

    def look(_number: int, _frame: FrameType | None) -> None:
        is_late = time.monotonic() > end
        if is_late or process.memory_info().rss - taken > LIMIT_BYTES:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            raise TimeoutError if is_late else MemoryError(TOO_MUCH)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, min(LOOK_S, limit_s), LOOK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
