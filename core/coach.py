"""What a run's rows say to somebody who has never trained one: what was seen, what it means, what to do.

Pure rules over what the run has written; knows nothing of torch, files or the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core import paths, runs, timeline
from core.timeline import Timeline


@dataclass(frozen=True)
class Evidence:
    """A run as far as it has come. `rows` are its metrics in TRL's names, `facts` what is known of its data, `result`
    its held-out figures once they are there; `steps` is how many there will be."""

    method: str
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    timeline: Timeline = Timeline()
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """One piece of advice. `change` holds the settings that its button sets for the next run (`method` may be among
    them), and is empty where there is nothing to set. `source` says where the rule comes from."""

    rule: str
    title: str
    seen: str
    means: str
    do: str
    change: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


def evidence_of(name: str) -> Evidence:
    """The run of that name, as it stands on disk."""
    run = runs.read_run(name)
    config = paths.run_dir(name) / "run.yaml"
    settings = runs.read_config(config).get("settings") if config.is_file() else None
    return Evidence(
        run.method, run.steps, settings or {}, runs.read_metrics(name), run.facts, timeline.read(name), run.result
    )


def advise(evidence: Evidence) -> list[Card]:
    """The cards for a run as it stands, the gravest first; none for a healthy run."""
    return []
