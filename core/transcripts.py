r"""One row of preference data into a pair, by written rules.

A row is {"chosen", "rejected"} as HH-RLHF transcripts or lists of messages, or {"prompt", "chosen", "rejected"}
with texts or messages. Without a rejected reply it is read by `to_reply`.

- In a transcript, turns start at "\n\nHuman:" and "\n\nAssistant:" and nowhere else.
- A prompt column that begins with "\n\nHuman:" and ends with "\n\nAssistant:" is a transcript too.
- The reply is the last turn and the assistant's; the prompt is all before it, the same for chosen and rejected.
- Turns of one speaker running are joined with a blank line, since chat templates refuse them. Where the prompt
  would then end with the assistant, the row is left out.

Knows nothing of files, tokens and models.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from core.errors import DataError
from core.file_rows import Reason, Row
from core.messages import Conversation, Message, Role, ask, from_dicts

SPEAKERS = {"Human": Role.USER, "Assistant": Role.ASSISTANT}
TURN = re.compile(r"\n\n(Human|Assistant):")
OPEN_TRANSCRIPT = re.compile(r"\n\nHuman:.*\n\nAssistant:\s*", re.DOTALL)


@dataclass(frozen=True)
class PreferencePair:
    """A prompt that ends with a human turn, and two replies to it; `row` is where it stands in its source, from 1.

    `rejected` is "" in data without rejected replies.
    """

    prompt: Conversation
    chosen: str
    rejected: str
    row: int


class RowError(DataError):
    """The row is no pair; `reason` is the kind, `detail` what was found."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        # A column's name is the file's to choose, so it may be long or no writable text.
        detail = detail.encode(errors="replace").decode()[:120]
        super().__init__(f"{reason} ({detail})" if detail else str(reason))
        self.reason, self.detail = reason, detail


def to_pair(row: Row) -> PreferencePair:
    """The row's pair; RowError where it is none."""
    (prompt, chosen), (rejected_prompt, rejected) = _sides(row, "chosen", "rejected")
    if prompt != rejected_prompt:
        raise RowError(Reason.PROMPTS_DIFFER)
    if not chosen or not rejected:
        raise RowError(Reason.EMPTY_REPLY)
    if chosen == rejected:
        raise RowError(Reason.SAME_REPLY)
    return PreferencePair(prompt, chosen, rejected, row.row)


def to_reply(row: Row) -> PreferencePair:
    """The row's prompt and chosen reply, whatever else it holds; RowError where there is none."""
    ((prompt, chosen),) = _sides(row, "chosen")
    if not chosen:
        raise RowError(Reason.EMPTY_REPLY)
    return PreferencePair(prompt, chosen, "", row.row)


def _sides(row: Row, *names: str) -> list[tuple[Conversation, str]]:
    """The prompt and the reply of each of the columns `names`."""
    if not isinstance(row.value, dict):
        raise RowError(Reason.NOT_PREFERENCE, f"{type(row.value).__name__} where an object belongs")
    check_columns(row.value, names)
    given = row.value.get("prompt")
    prompt = None if given is None else _prompt(given)
    return [_side(row.value[name], prompt) for name in names]


def check_columns(value: dict[str, Any], needed: Iterable[str]) -> None:
    """RowError, with the columns that the row has, unless it has those needed."""
    if not value.keys() >= set(needed):
        raise RowError(Reason.NOT_PREFERENCE, f"its columns: {', '.join(value) or 'none'}")


def parse_transcript(text: str) -> Conversation:
    """The turns of an HH-RLHF transcript as they stand, stripped; RowError where it is none."""
    # A transcript that was stripped on its way here still starts with a turn.
    before, *parts = TURN.split("\n\n" + _clean(text))
    if before or not parts:
        raise RowError(Reason.NOT_TRANSCRIPT)
    speakers, texts = parts[::2], parts[1::2]
    return tuple(Message(SPEAKERS[speaker], text.strip()) for speaker, text in zip(speakers, texts, strict=True))


def _prompt(value: Any) -> Conversation:
    """The prompt column: a question, the messages that lead to the reply, or the transcript up to where it begins."""
    if isinstance(value, str) and OPEN_TRANSCRIPT.fullmatch(value):
        return _check_prompt(parse_transcript(value)[:-1])
    return _check_prompt(ask(_clean(value)) if isinstance(value, str) else _messages(value))


def _side(value: Any, prompt: Conversation | None) -> tuple[Conversation, str]:
    """What one of the two columns answers, and how. With a prompt column it may hold the reply alone."""
    if isinstance(value, str) and prompt is not None:
        return prompt, _clean(value)
    turns = parse_transcript(value) if isinstance(value, str) else _messages(value)
    if not turns or turns[-1].role is not Role.ASSISTANT:
        raise RowError(Reason.NO_REPLY)
    before, reply = turns[:-1], turns[-1].content
    if prompt is None:
        return _check_prompt(before), reply
    if before and _joined(before) != prompt:
        raise RowError(Reason.PROMPTS_DIFFER)
    return prompt, reply


def _messages(value: Any) -> Conversation:
    if not isinstance(value, list):
        raise RowError(Reason.NOT_TEXT, type(value).__name__)
    try:
        return tuple(Message(message.role, _clean(message.content)) for message in from_dicts(value))
    except (ValueError, RecursionError) as error:
        raise RowError(Reason.NOT_TEXT, "messages without a role or a text") from error


def _check_prompt(turns: Conversation) -> Conversation:
    """The prompt as chat templates take it: a system text or none, then human and assistant by turns, human last."""
    turns = _joined(turns)
    said = turns[1:] if turns and turns[0].role is Role.SYSTEM else turns
    if not said or said[0].role is not Role.USER or any(turn.role is Role.SYSTEM for turn in said):
        raise RowError(Reason.NO_HUMAN_FIRST)
    if said[-1].role is Role.ASSISTANT:
        raise RowError(Reason.PROMPT_ENDS_WITH_ASSISTANT)
    if not all(turn.content for turn in said):
        raise RowError(Reason.EMPTY_TURN)
    return turns


def _joined(turns: Iterable[Message]) -> Conversation:
    return tuple(
        Message(role, "\n\n".join(turn.content for turn in run if turn.content))
        for role, run in groupby(turns, key=lambda turn: turn.role)
    )


def _clean(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(Reason.HALF_CHARACTER, f"at character {error.start + 1}") from error
    # However often it is cleaned, it comes out the same.
    return re.sub(r"\r+\n", "\n", text).strip()
