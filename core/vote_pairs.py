"""Votes become data: what was decided in a comparison, as a file of preference pairs that Train reads.

Knows nothing of journals and sides: it is handed who was chosen over whom, and by a person or by the judge.
"""

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import RequestError
from core.file_rows import Row
from core.messages import as_dicts
from core.paths import write_text
from core.prompt_sets import Given, in_given_sets
from core.prompts import Prompt
from core.settings import MIN_USABLE_ROWS
from core.transcripts import PreferencePair, RowError, to_pair

# A person's votes and a judge's verdicts are never in one file: they are not the same evidence.
ENDINGS = {"human": "votes", "judge": "judge_pairs"}
SOURCES = {"human": "your votes", "judge": "the judge's verdicts"}


@dataclass(frozen=True)
class Decided:
    """One response preferred to another, `by` "human" or "judge", in the comparison of that name."""

    prompt: Prompt
    chosen: str
    rejected: str
    by: str
    comparison: str
    is_chosen_cut: bool = False


@dataclass(frozen=True)
class Exported:
    """The file, how many pairs are in it, and how many of them ask what a given prompt set asks."""

    path: Path
    num_pairs: int
    num_flagged: int
    sentence: str


def write_pairs(decided: Iterable[Decided], by: str, journal: Path) -> Exported:
    """The pairs decided `by` human or judge, in `pairs/` beside the journal; RequestError where there are none.

    What Train would leave out, such as two responses that say the same, is left out here too, and every pair is
    written once. So is a pair whose chosen response was cut: it would teach to stop in mid-sentence.
    """
    mine = [one for one in decided if one.by == by]
    lines = _lines(one for one in mine if not one.is_chosen_cut)
    if not lines:
        is_cut = any(one.is_chosen_cut for one in mine)
        why = "every preferred response was cut" if is_cut else f"none of {SOURCES[by]} prefers one response to another"
        raise RequestError(f"There is nothing to export: {why}.")
    # In a folder of its own, since beside the journals it would look like one.
    path = journal.parent / "pairs" / f"{journal.stem}_{ENDINGS[by]}.jsonl"
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    num_flagged = sum(bool(line["in_sets"]) for line in lines)
    said = _sentence(path, lines, num_flagged, SOURCES[by])
    if num_cut := sum(one.is_chosen_cut for one in mine):
        said += f" Left out, since their chosen response was cut: {num_cut}."
    return Exported(path, len(lines), num_flagged, said)


def _lines(decided: Iterable[Decided]) -> list[dict[str, Any]]:
    lines: dict[PreferencePair, dict[str, Any]] = {}
    for one in decided:
        line = _line(one)
        with contextlib.suppress(RowError):
            lines.setdefault(to_pair(Row(0, line)), line)
    return list(lines.values())


def _line(one: Decided) -> dict[str, Any]:
    return {
        "prompt": as_dicts(one.prompt.messages) or one.prompt.prompt,
        "chosen": one.chosen,
        "rejected": one.rejected,
        "by": one.by,
        "comparison": one.comparison,
        "in_sets": in_given_sets(one.prompt.opening),
    }


def _sentence(path: Path, lines: Sequence[dict[str, Any]], num_flagged: int, source: str) -> str:
    num = len(lines)
    said = f"{num} {'pair' if num == 1 else 'pairs'} out of {source}: {path}. "
    said += (
        "Train takes this file." if num >= MIN_USABLE_ROWS else f"Train takes such a file from {MIN_USABLE_ROWS} on."
    )
    if num_flagged:
        sets = [name for name in Given if any(name in line["in_sets"] for line in lines)]
        flagged = "All" if num_flagged == num else num_flagged
        said += (
            f" {flagged} of them ask what given prompt sets ask ({', '.join(sets)}): "
            "an adapter trained on this file must not be compared on those."
        )
    return said
