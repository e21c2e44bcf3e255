"""What a comparison asks: prompts with an id and a category, out of a file or a list.

Knows nothing of who answers them.
"""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from core.errors import RequestError
from core.messages import Conversation, Role, as_dicts, ask, from_dicts
from core.normalise import SURROGATE
from core.paths import read_text

MAX_FILE_BYTES = 8 * 2**20
MAX_PROMPT_CHARACTERS = 100_000
FORM = 'a JSON list of {"id": ..., "category": ..., "prompt": ...}'


@dataclass(frozen=True)
class Prompt:
    """`prompt` is what people and the judge read; `messages` what is asked where turns came before, else empty."""

    id: str
    category: str
    prompt: str
    messages: Conversation = ()

    @property
    def conversation(self) -> Conversation:
        return self.messages or ask(self.prompt)

    @property
    def opening(self) -> str:
        """The first human turn."""
        return next(turn.content for turn in self.conversation if turn.role is Role.USER)

    def as_record(self) -> dict[str, Any]:
        record: dict[str, Any] = {"id": self.id, "category": self.category, "prompt": self.prompt}
        return record | {"messages": as_dicts(self.messages)} if self.messages else record

    @classmethod
    def of(cls, record: object) -> Self:
        """The inverse of `as_record`, whatever else the record holds; ValueError says what a prompt needs."""
        match record:
            case {"id": str(name), "category": str(category), "prompt": str(text), **rest}:
                return cls(name, category, text, _messages(rest.get("messages", [])))
        raise ValueError("an id, a category and a prompt, each a text")


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file; RequestError says which entry is wrong, and how."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MB; a prompts file is {FORM}.")
        entries = json.loads(read_text(path))
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}). Give the path of a prompts file.") from None
    except (ValueError, RecursionError):
        raise RequestError(f"{path} is not JSON in UTF-8; a prompts file is {FORM}.") from None
    if not isinstance(entries, list):
        raise RequestError(f"{path} does not hold a list; a prompts file is {FORM}.")
    return check_prompts(_prompt(entry, number) for number, entry in enumerate(entries, start=1))


def check_prompts(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The same prompts where a comparison can use them; RequestError where not."""
    checked = list(prompts)
    if not checked:
        raise RequestError("There is no prompt to compare on. Give at least one.")
    seen: set[str] = set()
    for prompt in checked:
        _check(prompt, seen)
        seen.add(prompt.id)
    return checked


def _prompt(entry: object, number: int) -> Prompt:
    try:
        return Prompt.of(entry)
    except ValueError as error:
        raise RequestError(f"Entry {number} of the prompts needs {error}.") from None


def _messages(rows: object) -> Conversation:
    # TypeError: a role that is a list.
    with contextlib.suppress(ValueError, TypeError):
        if isinstance(rows, list):
            return from_dicts(rows)
    raise ValueError("messages that each have a role (system, user or assistant) and a text, or none")


def _check(prompt: Prompt, seen: set[str]) -> None:
    shown = repr(prompt.id[:40])
    if not prompt.id.strip():
        raise RequestError("A prompt has an empty id. Give each a name of its own.")
    if prompt.id in seen:
        raise RequestError(f"Two prompts are named {shown}. Give each an id of its own.")
    if not prompt.prompt.strip():
        raise RequestError(f"The prompt {shown} is empty. Write what is to be asked, or leave it out.")
    if prompt.messages and (prompt.messages[-1].role is not Role.USER or not prompt.messages[-1].content.strip()):
        raise RequestError(f"The messages of the prompt {shown} do not end with a question. The user speaks last.")
    turns = [message.content for message in prompt.messages]
    if max(map(len, (prompt.prompt, *turns))) > MAX_PROMPT_CHARACTERS:
        raise RequestError(f"The prompt {shown} is longer than {MAX_PROMPT_CHARACTERS:,} characters. Shorten it.")
    if SURROGATE.search("".join((prompt.id, prompt.category, prompt.prompt, *turns))):
        raise RequestError(f"The prompt {shown} holds half of a character (a lone surrogate). Save it as UTF-8 again.")
