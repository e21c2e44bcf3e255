"""What the page says when something goes wrong or is still empty.

Turns errors into notices; knows no tab. A sentence of ours is shown as it is, anything else is a
surprise: the person gets an id, and the log gets the redacted details under it.
"""

import functools
import inspect
import logging
import re
import secrets
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.utils import get_upload_folder

from core import disk
from core.errors import (
    AdapterError,
    BusyError,
    Cancelled,
    DataError,
    EngineDied,
    JudgeError,
    ModelError,
    NonFiniteLoss,
    OutOfMemory,
    PlaygroundError,
    RequestError,
    SettingError,
)
from core.redact import redact
from core.ui.views import as_text

P = ParamSpec("P")

log = logging.getLogger("playground.page")

NOTICE_S = 12
UNREADABLE = "The page was sent a value that none of its fields can have, so nothing was started. Reload the page."

# The nearest kind names the notice; the order is from the particular to the general.
TITLES: dict[type[PlaygroundError], str] = {
    SettingError: "A setting is out of range",
    DataError: "This data cannot be used",
    ModelError: "This model cannot be used",
    AdapterError: "This adapter cannot be used",
    BusyError: "Something else is going on",
    JudgeError: "The judge cannot be asked",
    OutOfMemory: "Out of memory",
    NonFiniteLoss: "The training diverged",
    EngineDied: "The engine stopped",
    Cancelled: "Stopped",
    RequestError: "That cannot be done",
    PlaygroundError: "It did not work",
}


def shows_errors(handler: Callable[P, Any]) -> Callable[P, Any]:
    """A handler (or a generator of a handler) whose errors become notices and change nothing else."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except Exception as error:
                show(error)
                yield gr.skip()

        return stream

    # What returns nothing has no outputs, and Gradio warns of a value beyond them.
    nothing = None if inspect.signature(handler).return_annotation is None else gr.skip()

    @functools.wraps(handler)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            show(error)
            return nothing

    return answer


class CheckedBlocks(gr.Blocks):
    """Blocks that answer a value which no field of theirs can hold with a sentence instead of a traceback."""

    async def preprocess_data(self, block_fn: BlockFunction, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        try:
            _check_sent(inputs)
            values: list[Any] = await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except Exception as error:  # the edge of an event: whatever Gradio raises over what it was sent
            raise _unreadable() from error
        # A dropdown that takes what was typed takes a list or a table too.
        if any(isinstance(f, gr.Dropdown) and not isinstance(v, list | None if f.multiselect else str | None)
               # What starts with a choice always has one, and what is uploaded is a file.
               or v is None and (isinstance(f, gr.UploadButton) or isinstance(f, gr.Radio) and f.value is not None)
               for f, v in zip(block_fn.inputs, values, strict=True)):  # fmt: skip
            raise _unreadable()
        # A text that nobody has touched may come as nothing at all.
        return ["" if v is None and isinstance(f, gr.Textbox) else v
                for f, v in zip(block_fn.inputs, values, strict=True)]  # fmt: skip

    async def postprocess_data(self, *args: Any, **kwargs: Any) -> list[Any]:
        sent: list[Any] = _sendable(await super().postprocess_data(*args, **kwargs))
        return sent


def _check_sent(value: Any) -> None:
    """ValueError where it holds half a character, which nothing can write or send, or a file on the network, which
    Gradio would fetch for whoever asks."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Mapping):
        if "://" in str(value.get("path")):
            raise ValueError("a file on the network")
        _check_sent(list(value.values()))
    elif isinstance(value, list):
        for part in value:
            _check_sent(part)


def _sendable(value: Any) -> Any:
    """With a mark instead of half a character, as data may hold one: the whole answer would not be sent."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_sendable(part) for part in value]
    return value


def _unreadable() -> gr.Error:
    return gr.Error(UNREADABLE, title="Please look", print_exception=False)


def show(error: Exception) -> None:
    """One notice on the page; for what is neither ours nor the disk's also one entry in the log."""
    if isinstance(error, PlaygroundError):
        warn(title_of(error), sentence_of(error))
    elif said := disk.sentence(error):
        warn("It could not be saved", said)
    else:
        warn("Something unexpected happened", record(error))


def warn(title: str, sentence: str) -> None:
    """A notice whose title stands in its text: the page's own title line is shared by several notices."""
    gr.Warning(f"<strong>{as_text(title)}</strong><br>{as_text(sentence)}", duration=NOTICE_S, title="Please look")


def sentence_of(error: PlaygroundError) -> str:
    """What it says, with an uploaded file's own name instead of the path that the server gave it."""
    return re.sub(rf"{re.escape(get_upload_folder())}/[^/\s]+/", "", str(error))


def title_of(error: PlaygroundError) -> str:
    return next(title for kind, title in TITLES.items() if isinstance(error, kind))


def record(error: Exception) -> str:
    """Log a surprise under a fresh id, redacted; returns the sentence that may be shown."""
    number = secrets.token_hex(4)
    details = "".join(traceback.format_exception(error))
    log.error("%s %s", number, redact(details))
    return (
        f"The page met an error of its own and changed nothing. Try again; the details are in "
        f"models/logs/page.log under {number}."
    )
