"""How often the coach is right: its rules on recorded runs that show a fault, and on healthy ones.

The runs are real ones of the starter model (tests/bench/record_runs.py); what each shows was decided without the rules.
The thresholds were set with all but two of these runs in view, so that the table says what the rules do, and not how
they would do on anybody's run.
`python -m tests.bench.coach_table` prints the table.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from core import coach
from core.evidence import Evidence
from core.paths import PROJECT_ROOT
from core.timeline import Look, Timeline

FOLDER = PROJECT_ROOT / "tests" / "recorded"


@dataclass(frozen=True)
class Recording:
    """A recorded run, how it came about, and the rules whose fault it shows: none for a healthy one."""

    name: str
    how: str
    shows: frozenset[str]
    evidence: Evidence = field(repr=False)

    def up_to(self, step: int) -> Evidence:
        """What was known of the run when it stood at `step`."""
        seen = self.evidence
        looks = tuple(look for look in seen.timeline.looks if look.step <= step)
        rows = [row for row in seen.rows if row["step"] <= step]
        return replace(seen, rows=rows, timeline=replace(seen.timeline, looks=looks), result={})


def load() -> list[Recording]:
    return [_read(json.loads(path.read_text(encoding="utf-8")), path.stem) for path in sorted(FOLDER.glob("*.json"))]


def _read(kept: dict[str, Any], name: str) -> Recording:
    looks = tuple(Look(look["step"], tuple(look["responses"]), look["moved"]) for look in kept["looks"])
    timeline = Timeline(tuple(kept["prompts"]), tuple(kept["base"]), looks)
    evidence = Evidence(
        kept["method"], kept["steps"], kept["settings"], kept["rows"], kept["facts"], timeline, kept["result"]
    )
    return Recording(name, kept["how"], frozenset(kept["shows"]), evidence)


def fired(evidence: Evidence) -> set[str]:
    return {card.rule for card in coach.advise(evidence)}


def table(recordings: list[Recording]) -> list[list[str]]:
    """A line a rule: of the runs that show its fault how many it finds, and on how many healthy ones it is wrong."""
    found = {recording.name: fired(recording.evidence) for recording in recordings}
    healthy = [recording for recording in recordings if not recording.shows]
    rows = [["rule", "found of shown", "false alarms on healthy runs", "other faults' runs that it fires on"]]
    for rule in coach.RULES:
        shown = [r for r in recordings if rule.name in r.shows]
        others = [r for r in recordings if r.shows and rule.name not in r.shows]
        counts = [sum(rule.name in found[r.name] for r in runs) for runs in (shown, healthy, others)]
        rows.append(
            [rule.title, *(f"{k} of {len(runs)}" for k, runs in zip(counts, (shown, healthy, others), strict=True))]
        )
    return rows


def main() -> None:
    recordings = load()
    rows = table(recordings)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    found = sum(len(recording.shows & fired(recording.evidence)) for recording in recordings)
    shown = sum(len(recording.shows) for recording in recordings)
    healthy = [bool(fired(recording.evidence)) for recording in recordings if not recording.shows]
    print(
        f"{len(recordings)} recorded runs of the starter model: {found} of {shown} faults found, and cards on "
        f"{sum(healthy)} of the {len(healthy)} healthy ones."
    )


if __name__ == "__main__":
    main()
