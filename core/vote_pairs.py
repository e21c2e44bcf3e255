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
    """One response preferred to another."""

    prompt: Prompt
    chosen: str
    rejected: str
    is_chosen_cut: bool = False


@dataclass(frozen=True)
class Exported:
    path: Path
    sentence: str


def write_pairs(decided: Sequence[Decided], by: str, journal: Path) -> Exported:
    """The pairs decided `by` human or judge, in `pairs/` beside the journal; RequestError where there are none.

    What Train would leave out, such as two responses that say the same, is left out here too, and every pair is
    written once. So is a pair whose chosen response was cut: it would teach to stop in mid-sentence.
    """
    whole = [one for one in decided if not one.is_chosen_cut]
    num_cut = len(decided) - len(whole)
    lines = _lines(whole, by, journal.stem)
    if not lines:
        why = (
            "every preferred response was cut" if num_cut else f"none of {SOURCES[by]} prefers one response to another"
        )
        raise RequestError(f"There is nothing to export: {why}.")
    # In a folder of its own, since beside the journals it would look like one.
    path = journal.parent / "pairs" / f"{journal.stem}_{ENDINGS[by]}.jsonl"
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    left_out = f" Left out, since their chosen response was cut: {num_cut}." if num_cut else ""
    return Exported(path, _sentence(path, lines, SOURCES[by]) + left_out)


def _lines(decided: Iterable[Decided], by: str, comparison: str) -> list[dict[str, Any]]:
    lines: dict[PreferencePair, dict[str, Any]] = {}
    for one in decided:
        line = {
            "prompt": as_dicts(one.prompt.messages) or one.prompt.prompt,
            "chosen": one.chosen,
            "rejected": one.rejected,
            "by": by,
            "comparison": comparison,
            "in_sets": in_given_sets(one.prompt.opening),
        }
        with contextlib.suppress(RowError):
            lines.setdefault(to_pair(Row(0, line)), line)
    return list(lines.values())


def _sentence(path: Path, lines: Sequence[dict[str, Any]], source: str) -> str:
    num, num_flagged = len(lines), sum(bool(line["in_sets"]) for line in lines)
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
