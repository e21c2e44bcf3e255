"""What goes through the pipe between page and engine: questions, answers, events and the engine's state.

Plain values of plain values, so that both ends can pickle them. Knows neither end.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from core.file_rows import LeftOut
from core.messages import Conversation
from core.settings import STRENGTH


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
    """One contender (`base` or an adapter's name) and what it is to answer.

    `strength` scales the adapter's share of every layer's output: 0 is base, 1 the adapter as trained. SettingError
    where it is out of range.
    """

    contender: str
    conversation: Conversation
    strength: float = STRENGTH.default

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", STRENGTH.check(self.strength))


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
    """Everything that starts a run; `settings` holds only what was turned. `config` is a run.yaml to repeat.

    `columns` says which column of the data holds "prompt", "chosen" and "rejected" where that does not show by itself.
    `pinned` are the prompts to answer on the way, None for the usual ones. `then` holds the settings of a DPO run that
    follows on this one's adapter, None for no such run.
    """

    method: str = ""
    dataset: str = ""
    limit: int | None = None
    held_out: int | None = None
    split_seed: int = 0
    columns: dict[str, str] = field(default_factory=dict)
    model: str = ""
    run: str = ""
    from_adapter: str = ""
    is_trait_counted: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    pinned: tuple[str, ...] | None = None
    then: dict[str, Any] | None = None
    config: str = ""


@dataclass(frozen=True)
class RunPlan:
    """What a request would do. `duration_s` and `memory_bytes` are estimates, None where nothing is known yet.

    Where not `is_read`, `pairs` are at most so many, and whether some are left out or cut is not known.

    `parts` are the bytes of that peak by what they are for. Where it is tight or will not fit, `fix` holds the settings
    of the smallest change that makes it fit, and `fix_words` says what they are or, where none do, which base would.
    """

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
    parts: dict[str, int] = field(default_factory=dict)
    fix: dict[str, Any] = field(default_factory=dict)
    fix_words: str = ""
    is_read: bool = True
    cut_replies: int = 0
    # Why each prompt goes through the model twice, where it does.
    twice: str = ""


class SpanKind(StrEnum):
    """What becomes of a piece of a pair as the model sees it."""

    PROMPT = "read"
    TRAINED = "trained on"
    CUT = "cut"


Spans = tuple[tuple[str, SpanKind], ...]


@dataclass(frozen=True)
class PairView:
    """One pair as it is written, and as the model will see each of its replies; without a rejected reply, "" and ().

    Nor are there spans where the chat template cannot take the pair.
    """

    row: int
    prompt: Conversation
    chosen: str
    rejected: str
    chosen_spans: Spans
    rejected_spans: Spans


@dataclass(frozen=True)
class DataView:
    """What a data source holds, as a run with these settings would take it. Lengths are in tokens, one a pair.

    `found` says in a sentence what form it has. Where the columns must be chosen first, `is_unmapped` is true,
    `columns` lists them, and there are no pairs. Lengths are those of whole replies, `num_cut` counts the replies that
    go beyond `max_length`, and both are of the first pairs alone where there are very many. `base` is whose tokens
    they are. `pair` is the row that was asked for; `raw` is what stands there, where that makes no pair.
    """

    found: str
    columns: tuple[str, ...] = ()
    is_unmapped: bool = False
    is_paired: bool = True
    num_rows: int = 0
    train_rows: tuple[int, ...] = ()
    held_out_rows: tuple[int, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    prompt_lengths: tuple[int, ...] = ()
    chosen_lengths: tuple[int, ...] = ()
    rejected_lengths: tuple[int, ...] = ()
    num_cut: int = 0
    max_length: int = 0
    base: str = ""
    sha256: str = ""
    pair: PairView | None = None
    raw: str = ""


@dataclass(frozen=True)
class Merged:
    """A base and an adapter as one model: its folder, and how far its logits are from base plus adapter; None where
    its weights were read back instead."""

    folder: str
    largest_difference: float | None
    sentence: str


@dataclass(frozen=True)
class BaseCard:
    """A base that can be chosen. `fit` is fits, tight, won't fit or unknown, for training on this machine."""

    name: str
    label: str
    size_bytes: int
    num_parameters: int
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
    HELLO = "hello"
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
