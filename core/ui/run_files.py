"""A run's files as the page reads them: again only when one of them has changed.

A page looks every second, and parsing a thousand rows each time would take the processor that the run wants.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from core import paths, runs, timeline
from core.coach import Card, advise, evidence_of
from core.errors import PlaygroundError
from core.runs import Run
from core.timeline import Timeline
from core.ui.notices import record

METRICS, CONFIG = "metrics.jsonl", "run.yaml"

Row = Mapping[str, Any]
# When a file was last written, in nanoseconds, and its size; (0, 0) where it is not there.
Stamp = tuple[int, int]


def stamp(name: str, file: str) -> Stamp:
    try:
        found = (paths.run_dir(name) / file).stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def rows(name: str) -> Sequence[Row]:
    return _rows(name, stamp(name, METRICS))


def watched(name: str) -> Timeline:
    return _watched(name, stamp(name, timeline.FILE))


def config(name: str) -> Row:
    """What the run's run.yaml says, with settings in any case; empty where it is not there or damaged."""
    return _config(name, stamp(name, CONFIG))


def cards(run: Run) -> Sequence[Card]:
    """The coach's advice on the run as it stands."""
    stamps = tuple(stamp(run.name, file) for file in (METRICS, timeline.FILE, CONFIG))
    return _cards(run.name, run.status, run.phase, stamps)


@lru_cache(maxsize=8)
def _rows(name: str, _: Stamp) -> Sequence[Row]:
    return runs.read_metrics(name)


@lru_cache(maxsize=8)
def _watched(name: str, _: Stamp) -> Timeline:
    return timeline.read(name)


@lru_cache(maxsize=8)
def _config(name: str, _: Stamp) -> Row:
    try:
        found = runs.read_config(paths.run_dir(name) / CONFIG)
    except PlaygroundError:
        return {}
    settings = found.get("settings")
    return found | {"settings": settings if isinstance(settings, dict) else {}}


@lru_cache(maxsize=8)
def _cards(name: str, *_: object) -> Sequence[Card]:
    try:
        return advise(evidence_of(name))
    except Exception as error:  # the edge of what is only advice: damaged files cost the cards, not the page
        record(error)
        return []
