"""Every figure of reliability, in one table: `python -m tests.faults.figures`, or `make faults`.

What has been tried is written down as it goes, so that a cut-off night goes on where it was: `--anew` begins again.
Each figure has a share of the time; one that runs out of it says how far it came. Fails where anything went wrong.
"""

import argparse
import importlib
import json
import pkgutil
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from core import paths
from tests.faults import figures
from tests.faults.figures.figure import Figure, Tried

HEADINGS = ("figure", "target", "right of tried", "seeds", "took", "")
# Where the tries are written down; part of the working tree's ignored logs.
STATE = paths.PROJECT_ROOT / "models" / "logs" / "faults.jsonl"
SHOWN_WRONG = 5


def all_figures() -> list[Figure]:
    names = sorted(module.name for module in pkgutil.iter_modules(figures.__path__))
    modules = [importlib.import_module(f"{figures.__name__}.{name}") for name in names if not name.startswith("__")]
    return [figure for module in modules for figure in getattr(module, "FIGURES", ())]


class Record:
    """The tries of one form of one figure, by seed: what was tried, what went wrong, how long it took."""

    def __init__(self, file: Path, figure: Figure, form: str) -> None:
        self.file = file
        self.broke = ""
        self.key = {"figure": figure.name, "form": form}
        self.tries = [line for line in self._lines() if line["figure"] == figure.name and line["form"] == form]

    def _lines(self) -> Iterator[dict]:
        """What was written whole: a last line that was cut off is left out."""
        if self.file.exists():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    @property
    def count(self) -> int:
        return sum(one["count"] for one in self.tries)

    @property
    def wrong(self) -> list[str]:
        found = [f"seed {one['seed']}: {sentence}" for one in self.tries for sentence in one["wrong"]]
        return [*found, self.broke] if self.broke else found

    @property
    def seconds(self) -> float:
        return sum(one["took_s"] for one in self.tries)

    def add(self, seed: int, tried: Tried, took_s: float) -> None:
        line = {**self.key, "seed": seed, "count": tried.count, "wrong": tried.wrong, "took_s": round(took_s, 3)}
        self.tries.append(line)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def take(figure: Figure, record: Record, wanted: int, until: float) -> None:
    """Try on from the first seed that has not been tried, until there are enough or the time is over."""
    while record.count < wanted and time.monotonic() < until:
        seed, began = len(record.tries), time.monotonic()
        record.add(seed, figure.attempt(seed), time.monotonic() - began)
        print(f"  {figure.name}: {record.count:,} of {wanted:,}", end="\r", file=sys.stderr, flush=True)
    print(f"{figure.name}: {record.count:,} of {wanted:,}, {record.seconds:.0f} s", file=sys.stderr, flush=True)


def take_apart(figure: Figure, form: str, minutes: float) -> Record:
    """`take` in a process of its own: a figure's homes, servers and patches end with it."""
    command = [sys.executable, "-m", "tests.faults.figures", "--take", figure.name, "--minutes", str(minutes)]
    code = subprocess.run([*command, *(["--short"] if form == "short" else [])], check=False).returncode
    record = Record(STATE, figure, form)
    record.broke = f"its process ended with {code}" if code else ""
    return record


def row(figure: Figure, record: Record, wanted: int) -> tuple[str, ...]:
    # One try can go wrong in several ways.
    right = max(0, record.count - len(record.wrong))
    verdict = "**wrong**" if record.wrong else "" if record.count >= wanted else f"of {wanted:,}: out of time"
    seeds = f"0 to {len(record.tries) - 1}" if record.tries else "none"
    return (figure.what, figure.target, f"{right:,} of {record.count:,}", seeds, f"{record.seconds:.0f} s", verdict)


def as_markdown(rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in [HEADINGS, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(HEADINGS), *lines[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a few tries of each")
    parser.add_argument("--only", default="", help="figures by name, with commas between")
    parser.add_argument("--minutes", type=float, default=60, help="the most that each figure may take (60)")
    parser.add_argument("--anew", action="store_true", help="forget what has been tried")
    parser.add_argument("--take", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.anew:
        STATE.unlink(missing_ok=True)
    form, rows, num_wrong = "short" if asked.short else "full", [], 0
    for figure in all_figures():
        wanted = figure.short if asked.short else figure.full
        if asked.take == figure.name:
            take(figure, Record(STATE, figure, form), wanted, time.monotonic() + 60 * asked.minutes)
        if asked.take or (asked.only and figure.name not in asked.only.split(",")):
            continue
        record = take_apart(figure, form, asked.minutes)
        rows.append(row(figure, record, wanted))
        num_wrong += len(record.wrong)
        for sentence in record.wrong[:SHOWN_WRONG]:
            print(f"  {sentence}", file=sys.stderr)
    if asked.take:
        return 0
    print(as_markdown(rows))
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
    return int(num_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
