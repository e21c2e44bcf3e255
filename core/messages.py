"""What is said, and by whom: the one shape of a conversation throughout the program."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True)
class Message:
    role: Role
    content: str


Conversation = tuple[Message, ...]


def ask(prompt: str, system: str = "") -> Conversation:
    """A conversation of one question, with a system text before it where there is one."""
    question = Message(Role.USER, prompt)
    return (Message(Role.SYSTEM, system), question) if system.strip() else (question,)


def as_dicts(conversation: Sequence[Message]) -> list[dict[str, str]]:
    """The form that chat templates and JSON take."""
    return [{"role": m.role.value, "content": m.content} for m in conversation]


def from_dicts(rows: Iterable[object]) -> Conversation:
    """The inverse of `as_dicts`; ValueError names the first row that is no message."""
    return tuple(_message(row) for row in rows)


def _message(row: object) -> Message:
    if isinstance(row, dict):
        role, content = row.get("role"), row.get("content")
        if isinstance(role, str) and role in set(Role) and isinstance(content, str):
            return Message(Role(role), content)
    raise ValueError(f"A message needs a role (system, user or assistant) and a text, not {row!r}.")
