"""What goes through the pipe between page and engine: questions, answers, events and the engine's state.

Plain values of plain values, so that both ends can pickle them. Knows neither end.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from core.messages import Conversation


class EnginePhase(StrEnum):
    STARTING = "starting"
    FETCHING = "fetching"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DEAD = "dead"


@dataclass(frozen=True)
class EngineState:
    """What the engine is doing, as far as it has said. `progress` is a share, None where it cannot be known."""

    phase: EnginePhase = EnginePhase.STARTING
    message: str = "Starting the engine"
    progress: float | None = None
    base: str = ""
    device: str = ""
    dtype: str = ""
    reason: str = ""
    num_parameters: int = 0
    memory_bytes: int = 0
    adapters: tuple[str, ...] = ()
    run: str | None = None


@dataclass(frozen=True)
class Turn:
    """One contender (`base` or an adapter's name) and what it is to answer."""

    contender: str
    conversation: Conversation


@dataclass(frozen=True)
class Response:
    """`is_cut`: it did not come to its own end. `note`: what else a reader should know."""

    text: str
    num_tokens: int
    is_cut: bool = False
    note: str = ""


@dataclass(frozen=True)
class Chunk:
    """A piece of one of several responses that stream side by side; `response` closes its row."""

    row: int
    text: str
    response: Response | None = None


@dataclass(frozen=True)
class RunRequest:
    """Everything that starts a run; `settings` holds only what was turned. `config` is a run.yaml to repeat."""

    method: str = ""
    dataset: str = ""
    limit: int | None = None
    held_out: int | None = None
    model: str = ""
    run: str = ""
    from_adapter: str = ""
    is_trait_counted: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    config: str = ""


@dataclass(frozen=True)
class RunPlan:
    """What a request would do. `duration_s` and `memory_bytes` are estimates, None where nothing is known yet."""

    method: str
    base: str
    pairs: int
    held_out: int
    left_out: dict[str, int]
    steps: int
    batch: int
    duration_s: float | None
    memory_bytes: int | None
    memory_limit: int
    fit: str
    download_bytes: int
    sentence: str


@dataclass(frozen=True)
class BaseCard:
    """A base that can be chosen. `fit` is fits, tight, won't fit or unknown, for training on this machine."""

    name: str
    label: str
    size_bytes: int
    num_parameters: int
    is_local: bool
    fit: str
    sentence: str


@dataclass(frozen=True)
class CheckReport:
    ok: bool
    problems: list[str]
    response: str


@dataclass(frozen=True)
class Request:
    """What goes down the pipe. `cancel` carries the number of the request that it ends."""

    number: int
    verb: str
    args: dict[str, Any]


class EventKind(StrEnum):
    RESULT = "result"
    ERROR = "error"
    CHUNK = "chunk"
    PROGRESS = "progress"
    STATE = "state"


@dataclass(frozen=True)
class Event:
    """What comes up the pipe. An error's data is (its kind's name, its sentence)."""

    number: int
    kind: EventKind
    data: Any


ENDS = (EventKind.RESULT, EventKind.ERROR)
# Base's responses over which drift is measured: a minute's work on a 7B base.
MAX_DRIFT_ROWS = 64
