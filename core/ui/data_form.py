"""The data part of the Train tab's form as a request, and a request as what these fields show.

Pure: no gradio. Votes and earlier runs are names out of a list, never paths, and what is typed as a Hub id names no
file of this machine. What the data itself holds is checked where it is read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from core import paths, runs
from core.client import RunRequest
from core.errors import DataError, RequestError
from core.settings import DATA
from core.sources import STARTER
from core.ui.compare_views import comparison_choices
from core.ui.views import count
from core.vote_pairs import ENDINGS, SOURCES


class DataSource(StrEnum):
    STARTER = "Starter"
    HH_RLHF = "HH-RLHF"
    FILE = "File"
    HUB = "Hub id"
    VOTES = "Votes"
    EARLIER_RUN = "Earlier run"


HH_RLHF = "Anthropic/hh-rlhf"
HALF_EACH = "Half helpful, half harmless"
# "As published" begins with the harmlessness rows; its first thousand hold no others.
PARTS = {
    "As published": HH_RLHF,
    "Helpful": f"{HH_RLHF}:helpful-base",
    "Harmless": f"{HH_RLHF}:harmless-base",
    HALF_EACH: "",
}
SOURCE_NOTES = {
    DataSource.STARTER: "160 short pairs that come with the playground. They teach one visible habit: a brief, "
    "concrete answer that ends with exactly one next step.",
    DataSource.HH_RLHF: "Anthropic's human preferences. It is downloaded once, and for that you need the network.",
    DataSource.FILE: "Rows with a chosen and a rejected reply, at most 20 MB: .jsonl, .jsonl.gz, .json, .csv or "
    ".parquet.",
    DataSource.HUB: "Any data set of preferences on the Hugging Face Hub. It is downloaded when you look at it or "
    "start the run.",
    DataSource.VOTES: "What you or the judge preferred in a comparison, as pairs.",
    DataSource.EARLIER_RUN: "Exactly what an earlier run was given, with the same rows held out.",
}
COLUMNS = ("prompt", "chosen", "rejected")
SNAPSHOT = "data.jsonl"

# owner/name, then perhaps a folder and a number of rows; several joined by "+".
_HUB_PART = r"(\w[\w.-]*/\w[\w.-]*)(?::\w[\w.-]*)?(?:@\d+)?"
_HUB_ID = re.compile(rf"{_HUB_PART}(?:\+{_HUB_PART})*", re.ASCII)
_HUB_QUERY = re.compile(r"([^?]+)\?(?:config=([\w.-]+))?&?(?:split=([\w.-]+))?", re.ASCII)
_HUB_WORD = re.compile(r"[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class DataForm:
    """The fields' values as they come: numbers may be text or None."""

    source: str = DataSource.STARTER
    part: str = next(iter(PARTS))
    file: str | None = None
    hub_id: str = ""
    hub_config: str = ""
    hub_split: str = ""
    votes: str | None = None
    earlier_run: str | None = None
    column_prompt: str | None = None
    column_chosen: str | None = None
    column_rejected: str | None = None
    limit: Any = DATA["limit"].default
    held_out: Any = None
    split_seed: Any = DATA["split_seed"].default

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From the values of a form by name; those of other fields are passed over."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    @classmethod
    def showing(cls, request: RunRequest) -> dict[str, Any]:
        """The values with which the fields stand for `request`; a file has to be chosen again."""
        columns = {f"column_{name}": request.columns.get(name) for name in COLUMNS}
        return vars(cls()) | _shown_source(request.dataset) | columns | {
            "limit": DATA["limit"].default if request.limit is None else request.limit,
            "held_out": "" if request.held_out is None else str(request.held_out),
            "split_seed": request.split_seed,
        }  # fmt: skip

    def request_part(self) -> dict[str, Any]:
        """RequestError or DataError where the form is not filled in; its sentence fits on a button."""
        limit = DATA["limit"].check(self.limit)
        columns = {name: vars(self)[f"column_{name}"] for name in COLUMNS}
        return {
            "dataset": self._dataset(limit),
            "limit": limit,
            "held_out": None if self.held_out in (None, "") else DATA["held_out"].check(self.held_out),
            "split_seed": DATA["split_seed"].check(self.split_seed),
            "columns": {name: column for name, column in columns.items() if column},
        }

    def words(self) -> str:
        """What the data is called in a sentence; plain text."""
        words: dict[str, str] = {
            DataSource.STARTER: "the starter data",
            DataSource.HH_RLHF: f"HH-RLHF ({self.part.lower()})",
            DataSource.FILE: "your file",
            DataSource.HUB: self.hub_id,
            DataSource.VOTES: _whose(self.votes or ""),
            DataSource.EARLIER_RUN: f"the data of {self.earlier_run}",
        }
        return words[self.source]

    def _dataset(self, limit: int) -> str:
        readers: dict[str, Callable[[], str]] = {
            DataSource.STARTER: lambda: STARTER,
            DataSource.HH_RLHF: lambda: self._part(limit),
            DataSource.FILE: self._file,
            DataSource.HUB: self._hub_id,
            DataSource.VOTES: self._votes,
            DataSource.EARLIER_RUN: self._earlier_run,
        }
        if not isinstance(self.source, str) or self.source not in readers:
            raise RequestError("Choose where the data comes from")
        return readers[self.source]()

    def _part(self, limit: int) -> str:
        if self.part == HALF_EACH:
            return half_each(limit)
        if self.part not in PARTS:
            raise RequestError("Choose a part of HH-RLHF")
        return PARTS[self.part]

    def _file(self) -> str:
        if not self.file:
            raise RequestError("Choose a file first")
        if not Path(self.file).is_file():
            raise RequestError("That upload is gone: choose the file again")
        # Gradio hands over a text of a kind of its own, which no run.yaml can hold.
        return str(self.file)

    def _hub_id(self) -> str:
        hub_id = (self.hub_id or "").strip()
        if not hub_id:
            raise RequestError("Type a Hub id first")
        # A path here would read any file of this machine; files come in as uploads.
        if not _HUB_ID.fullmatch(hub_id) or any(_names_a_file(part) for part in hub_id.split("+")):
            raise DataError(f"{hub_id[:80]!r} is not a Hub id: it is owner/name, or owner/name:folder.")
        return hub_id + self._hub_query("+" in hub_id)

    def _hub_query(self, is_joined: bool) -> str:
        """Configuration and split as they stand behind a Hub id."""
        given = {"config": (self.hub_config or "").strip(), "split": (self.hub_split or "").strip()}
        given = {name: word for name, word in given.items() if word}
        if not given:
            return ""
        if is_joined:
            raise RequestError("Configuration and split go with one Hub id")
        if wrong := next((word for word in given.values() if not _HUB_WORD.fullmatch(word)), ""):
            raise DataError(f"{wrong[:40]!r} is no name of a configuration or split")
        return "?" + "&".join(f"{name}={word}" for name, word in given.items())

    def _votes(self) -> str:
        found = {path.name: path for path in vote_files()}
        if not self.votes:
            raise RequestError("Choose a file of votes first" if found else "There are no votes to train on yet")
        if self.votes not in found:
            raise RequestError("Those votes are gone: choose others")
        return str(found[self.votes])

    def _earlier_run(self) -> str:
        if not self.earlier_run:
            raise RequestError("Choose an earlier run first")
        path = snapshot_of(self.earlier_run)
        if not path.is_file():
            raise RequestError("That run's data is gone: choose another")
        return str(path)


def half_each(limit: int) -> str:
    """Helpful and harmless rows in equal numbers, `limit` of them together."""
    half = max(1, limit // 2)
    return f"{PARTS['Helpful']}@{limit - half}+{PARTS['Harmless']}@{half}"


# --- what can be chosen -----------------------------------------------------------------------------------


def vote_files() -> list[Path]:
    """What was exported from comparisons, the newest first."""
    endings = tuple(f"_{ending}.jsonl" for ending in ENDINGS.values())
    found = [path for path in _pairs_dir().glob("*.jsonl") if path.name.endswith(endings) and not path.is_symlink()]
    return sorted(found, key=lambda path: path.name, reverse=True)


def vote_choices() -> list[tuple[str, str]]:
    """(label, file name) of every export: when, whose, and how many pairs."""
    return [(f"{when} · {_whose(path.name)} · {count(_num_lines(path), 'pair')}", path.name)
            for path in vote_files() for when, _ in comparison_choices([path])]  # fmt: skip


def run_choices() -> list[tuple[str, str]]:
    """(label, name) of every run whose data is still here, the newest first."""
    return [(f"{run.name} · {DataForm.of(_shown_source(run.dataset)).words()}", run.name)
            for run in runs.list_runs() if snapshot_of(run.name).is_file()]  # fmt: skip


def snapshot_of(run: str) -> Path:
    """Where a run keeps the data it was given; RequestError for what is no run's name."""
    return paths.run_dir(run) / SNAPSHOT


def _pairs_dir() -> Path:
    return paths.logs_dir() / "pairs"


def _whose(name: str) -> str:
    return next((SOURCES[by] for by, ending in ENDINGS.items() if name.endswith(f"_{ending}.jsonl")), "votes")


def _num_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


# --- a request's source as fields -------------------------------------------------------------------------


def _shown_source(dataset: str) -> dict[str, Any]:
    """The fields that say where `dataset` comes from."""
    if dataset == STARTER:
        return {"source": DataSource.STARTER}
    if part := _part_of(dataset):
        return {"source": DataSource.HH_RLHF, "part": part}
    path = Path(dataset)
    if path.name == SNAPSHOT and path.parent.parent == paths.finetuned_dir():
        return {"source": DataSource.EARLIER_RUN, "earlier_run": path.parent.name}
    if path.parent == _pairs_dir():
        return {"source": DataSource.VOTES, "votes": path.name}
    return _shown_hub_id(dataset)


def _part_of(dataset: str) -> str:
    """The part of HH-RLHF that `dataset` is, if it is one."""
    rows = [int(n) for n in re.findall(r"@(\d+)", dataset)]
    named = {source: part for part, source in PARTS.items() if source} | {half_each(sum(rows)): HALF_EACH}
    return named.get(dataset, "")


def _shown_hub_id(dataset: str) -> dict[str, Any]:
    found = _HUB_QUERY.fullmatch(dataset)
    hub_id, config, split = found.groups(default="") if found else (dataset, "", "")
    if not _HUB_ID.fullmatch(hub_id):
        # An upload is gone with its page, and a path is nothing that a page may read.
        return {"source": DataSource.FILE}
    return {"source": DataSource.HUB, "hub_id": hub_id, "hub_config": config, "hub_split": split}


def _names_a_file(part: str) -> bool:
    name = part.partition("@")[0]
    return Path(name).exists() or Path(name.partition(":")[0]).exists()
