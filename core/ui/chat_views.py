"""Chat's values and words: who is talked to, what was said, how it is shown. No component, no engine."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from core.client import EnginePhase, EngineState, Turn
from core.errors import RequestError
from core.messages import Conversation, Message, Role
from core.settings import STRENGTH
from core.ui.streams import Column

BASE = "base"
NO_ADAPTER = "No adapter yet. Train one on the starter data first: it takes a few minutes."
STANDS_STILL = "A run is going on. Chat as you like: training stands still while it answers, then goes on."
WAITS = "…"


class Shown(StrEnum):
    BASE = "base"
    TUNED = "tuned"
    BOTH = "both"


def contenders(shown: str, adapter: str | None, adapters: Sequence[str]) -> list[str]:
    """Who is asked; RequestError where the tuned model is wanted and there is no such adapter.

    Both are base alone as long as nothing is trained, so that a first visit can chat at once.
    """
    if shown not in set(Shown):
        raise RequestError(f"Talk to base, tuned or both, not to {str(shown)[:40]!r}.")
    if shown == Shown.BASE or (shown == Shown.BOTH and not adapters):
        return [BASE]
    if not adapters:
        raise RequestError(NO_ADAPTER)
    if adapter is None or adapter not in adapters:
        raise RequestError(f"No adapter named {str(adapter)[:70]!r}. There are: {', '.join(adapters)}.")
    return [adapter] if shown == Shown.TUNED else [BASE, adapter]


@dataclass(frozen=True)
class Talks:
    """One session's conversations, one a contender: nobody reads what another was told or said.

    `endings` says how each one's last response ended.
    """

    by_contender: Mapping[str, Conversation] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)

    def of(self, contender: str) -> Conversation:
        return self.by_contender.get(contender, ())

    def said(self, contenders: Sequence[str], text: str) -> "Talks":
        """The person's message to all of them."""
        return self._with({name: _said(self.of(name), text) for name in contenders})

    def answered(self, turns: Sequence[Turn], columns: Sequence[Column]) -> "Talks":
        """Each one's response to its turn, as far as it has come; an empty one is none."""
        both = list(zip(turns, columns, strict=True))
        talks = self._with({turn.contender: _answered(self.of(turn.contender), column.text) for turn, column in both})
        endings = {turn.contender: caption(column, turn) for turn, column in both}
        return replace(talks, endings={**self.endings, **endings})

    def without_last_response(self, contenders: Sequence[str]) -> tuple["Talks", list[str]]:
        """As before the last response, and who is to be asked again."""
        asked = [name for name in contenders if self.of(name)]
        if not asked:
            raise RequestError("There is nothing to retry yet. Write a message first.")
        return self._with({name: _unanswered(self.of(name)) for name in asked}), asked

    def without(self, contenders: Sequence[str]) -> "Talks":
        kept = {name: talk for name, talk in self.by_contender.items() if name not in contenders}
        return Talks(kept, {name: ending for name, ending in self.endings.items() if name in kept})

    def turns(self, contenders: Sequence[str], system: str, strength: float) -> list[Turn]:
        """What the engine is asked. The system text stands outside the history, so that a change acts at once."""
        rules = (Message(Role.SYSTEM, system.strip()),) if system.strip() else ()
        return as_turns({name: rules + self.of(name) for name in contenders}, strength)

    def _with(self, changed: Mapping[str, Conversation]) -> "Talks":
        return replace(self, by_contender={**self.by_contender, **changed})


def as_turns(conversations: Mapping[str, Conversation], strength: float) -> list[Turn]:
    """One a contender; the strength is the adapter's, and base has none."""
    return [Turn(who, said, STRENGTH.default if who == BASE else strength) for who, said in conversations.items()]


def _said(talk: Conversation, text: str) -> Conversation:
    # Two messages of one speaker running are refused by some chat templates: an unanswered one is continued.
    if talk and talk[-1].role == Role.USER:
        return (*talk[:-1], Message(Role.USER, f"{talk[-1].content}\n\n{text}"))
    return (*talk, Message(Role.USER, text))


def _answered(talk: Conversation, text: str) -> Conversation:
    talk = _unanswered(talk)
    return (*talk, Message(Role.ASSISTANT, text)) if text.strip() else talk


def _unanswered(talk: Conversation) -> Conversation:
    return talk[:-1] if talk and talk[-1].role == Role.ASSISTANT else talk


def as_blocks(talk: Conversation, is_waiting: bool = False) -> list[dict[str, Any]]:
    """Chatbot messages that show every text letter by letter; `is_waiting` marks that the last is being answered.

    Chatbot sets messages as HTML even without Markdown, and lets images through, so texts are escaped;
    as typed blocks, since it takes the indentation off plain strings.
    """
    is_unanswered = bool(talk) and talk[-1].role == Role.USER
    waiting = (Message(Role.ASSISTANT, WAITS),) if is_waiting and is_unanswered else ()
    return [
        {"role": message.role.value, "content": [{"type": "text", "text": html.escape(message.content, quote=False)}]}
        for message in (*talk, *waiting)
    ]


def caption(column: Column, turn: Turn) -> str:
    """How a response ended, in numbers and words of ours, and at which strength where that is not the usual one."""
    strength = "" if turn.strength == STRENGTH.default else f" Adapter strength {turn.strength:g}."
    if column.is_stopped:
        return f"Stopped. It keeps what was said so far.{strength}"
    if column.response is None:
        return ""
    ending = ", cut at the longest response allowed" if column.response.is_cut else ""
    return f"{column.response.num_tokens} tokens{ending}.{strength}"


PHASES = {
    EnginePhase.STARTING: "The engine is starting",
    EnginePhase.FETCHING: "The model is being fetched",
    EnginePhase.LOADING: "The model is loading",
    EnginePhase.READY: "",
    EnginePhase.FAILED: "No model is loaded",
    EnginePhase.DEAD: "The engine has stopped",
}


def why_not_ready(state: EngineState) -> str:
    """Why nothing can be asked now, as a button's label; empty where it can."""
    return PHASES[state.phase]


def why_not_send(state: EngineState, shown: str, adapters: Sequence[str]) -> str:
    return why_not_ready(state) or ("" if shown != Shown.TUNED or adapters else "Train an adapter first")
