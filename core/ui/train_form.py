"""What the Train tab's form says, as a request; and a request, as what the form shows.

Pure: no gradio. It checks only what the form alone can know; the data and the settings are checked
where they are read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from core.client import RunRequest
from core.errors import DataError, RequestError
from core.settings import DATA, TRAINING, Method, parse_method, used_by


class DataSource(StrEnum):
    STARTER = "Starter"
    HH_RLHF = "HH-RLHF"
    FILE = "File"
    HUB = "Hub id"


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
    DataSource.FILE: "A .jsonl or .jsonl.gz file of up to 20 MB with a chosen and a rejected conversation a line.",
    DataSource.HUB: "Any data set of preferences on the Hugging Face Hub, as owner/name or owner/name:folder.",
}

# owner/name, then perhaps a folder and a number of rows; several joined by "+".
_HUB_PART = r"\w[\w.-]*/\w[\w.-]*(:\w[\w.-]*)?(@\d+)?"
_HUB_ID = re.compile(rf"{_HUB_PART}(\+{_HUB_PART})*", re.ASCII)


@dataclass(frozen=True)
class TrainForm:
    """The form's values as they come: numbers may be text or None, and settings hold what all methods have."""

    model: str = ""
    source: str = DataSource.STARTER
    part: str = "As published"
    file: str | None = None
    hub_id: str = ""
    limit: Any = DATA["limit"].default
    held_out: Any = None
    method: str = Method.DPO
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """From the components' values by name; those named like settings are the settings."""
        settings = {name: values.pop(name) for name in TRAINING if name in values}
        return cls(**values, settings=settings)

    @classmethod
    def showing(cls, request: RunRequest) -> Self:
        """The form that makes `request`."""
        source, part, hub_id = _shown_source(request.dataset)
        limit = DATA["limit"].default if request.limit is None else request.limit
        return cls(model=request.model, source=source, part=part, hub_id=hub_id, limit=limit,
                   held_out=request.held_out, method=request.method, settings=request.settings)  # fmt: skip

    def request(self) -> RunRequest:
        """RequestError where the form is not filled in; its sentence fits on a button."""
        method = parse_method(self.method)
        limit = DATA["limit"].check(self.limit)
        held_out = None if self.held_out in (None, "") else DATA["held_out"].check(self.held_out)
        used = {setting.name for setting in used_by(method)}
        return RunRequest(
            method=method, dataset=self._dataset(limit), limit=limit, held_out=held_out, model=self.model or "",
            settings={name: value for name, value in self.settings.items() if name in used},
        )  # fmt: skip

    def _dataset(self, limit: int) -> str:
        if self.source == DataSource.STARTER:
            return "starter"
        if self.source == DataSource.HH_RLHF:
            return self._part(limit)
        if self.source == DataSource.FILE:
            return self._file()
        if self.source == DataSource.HUB:
            return self._hub_id()
        raise RequestError("Choose where the data comes from")

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
        return self.file

    def _hub_id(self) -> str:
        hub_id = (self.hub_id or "").strip()
        if not hub_id:
            raise RequestError("Type a Hub id first")
        # A path here would read any file of this machine; files come in as uploads.
        if not _HUB_ID.fullmatch(hub_id) or Path(hub_id).exists():
            raise DataError(f"{hub_id[:80]!r} is not a Hub id: it is owner/name, or owner/name:folder.")
        return hub_id


def half_each(limit: int) -> str:
    """Helpful and harmless rows in equal numbers, `limit` of them together."""
    half = max(1, limit // 2)
    return f"{PARTS['Helpful']}@{limit - half}+{PARTS['Harmless']}@{half}"


def _shown_source(dataset: str) -> tuple[DataSource, str, str]:
    """Source, part of HH-RLHF and Hub id that stand for `dataset`."""
    first = next(iter(PARTS))
    if dataset == "starter":
        return DataSource.STARTER, first, ""
    for part, source in PARTS.items():
        if dataset == source:
            return DataSource.HH_RLHF, part, ""
    rows = [int(n) for n in re.findall(r"@(\d+)", dataset)]
    if dataset == half_each(sum(rows)):
        return DataSource.HH_RLHF, HALF_EACH, ""
    return DataSource.HUB, first, dataset
