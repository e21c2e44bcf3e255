"""The page's side of the pipe to the engine process."""

from dataclasses import dataclass, field
from enum import StrEnum

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
    """Everything that starts a run; `settings` holds only what was turned."""

    method: str
    dataset: str
    limit: int | None = None
    held_out: int | None = None
    model: str = ""
    run: str = ""
    from_adapter: str = ""
    is_trait_counted: bool = True
    settings: dict[str, object] = field(default_factory=dict)
