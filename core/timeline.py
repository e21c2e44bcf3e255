"""How a run's responses to its pinned prompts change on the way: base once, the policy at every look.

Written by the process that trains, one line a look, read by anyone; knows nothing of torch or the page.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from core import paths
from core.diagnostics import word_distance
from core.runs import json_lines

FILE = "timeline.jsonl"


@dataclass(frozen=True)
class Look:
    """The policy's responses after `step` steps, one a pinned prompt, and how far they have moved from base's.

    `moved` is the mean share of words that changed, 0 to 1.
    """

    step: int
    responses: tuple[str, ...]
    moved: float


@dataclass(frozen=True)
class Timeline:
    """`base` answers `prompts` as every look does; without looks nothing was watched."""

    prompts: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()


def moved(base: Sequence[str], responses: Sequence[str]) -> float:
    """The mean share of words in which two sets of responses differ, prompt by prompt."""
    distances = [word_distance(a, b) for a, b in zip(base, responses, strict=True)]
    return sum(distances) / len(distances) if distances else 0.0


def begin(run: str, prompts: Sequence[str], base: Sequence[str]) -> None:
    """A new timeline with what base answers; one that is there already is replaced."""
    line = json.dumps({"prompts": list(prompts), "responses": list(base)})
    paths.write_text(paths.run_dir(run) / FILE, line + "\n")


def add(run: str, step: int, responses: Sequence[str], share: float) -> None:
    with (paths.run_dir(run) / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "responses": list(responses), "moved": share}) + "\n")


def cut(run: str, step: int) -> None:
    """Forget the looks after `step`: a resumed run looks anew."""
    timeline = read(run)
    if not timeline.prompts:
        return
    begin(run, timeline.prompts, timeline.base)
    for look in timeline.looks:
        if look.step <= step:
            add(run, look.step, look.responses, look.moved)


def read(run: str) -> Timeline:
    """What has been watched so far; a torn or damaged line is skipped."""
    rows = json_lines(paths.run_dir(run) / FILE)
    if not rows or not _are_texts(rows[0].get("prompts"), rows[0].get("responses")):
        return Timeline()
    prompts, base = tuple(rows[0]["prompts"]), tuple(rows[0]["responses"])
    looks = (_look(row, len(prompts)) for row in rows[1:])
    return Timeline(prompts, base, tuple(look for look in looks if look))


def _look(row: dict[str, object], num_prompts: int) -> Look | None:
    step, responses, share = row.get("step"), row.get("responses"), row.get("moved")
    if not isinstance(step, int) or not isinstance(share, int | float) or not isinstance(responses, list):
        return None
    return Look(step, tuple(map(str, responses)), float(share)) if len(responses) == num_prompts else None


def _are_texts(*values: object) -> bool:
    lengths = {len(v) for v in values if isinstance(v, list) and all(isinstance(text, str) for text in v)}
    return len(lengths) == 1 and all(isinstance(v, list) for v in values)
