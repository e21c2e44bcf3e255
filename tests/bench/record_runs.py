"""Records the runs that the coach is measured on: real runs of the starter model, healthy ones and provoked faults.

`python -m tests.bench.record_runs` lists them, and with names it makes those. What a run shows was decided by its
provocation and its curves, before any rule was asked, and stands in the table below. Of the data, nothing is kept.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from core import coach, paths
from tests.bench.coach_table import FOLDER

STARTER_ROWS = paths.ASSETS / "starter_preferences.jsonl"
# The figures of a row that a person, and so a rule, looks at.
KEPT = {"step", "epoch", "loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected",
        "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected", "mean_token_accuracy", "moved",
        "eval_preference_accuracy", "eval_reward_accuracy", "eval_reward_margin", "eval_n"}  # fmt: skip
# Of HH-RLHF short rows alone, so that a slow machine does a run in minutes and truncation is no second fault.
HH_MOST_CHARS = 280
MAX_LENGTH = 208
CAPITALS_ASKED = tuple(f"What is the capital of {country}?" for country in ("France", "Japan", "Egypt"))
CAPITALS = {
    "Spain": "Madrid", "Italy": "Rome", "Germany": "Berlin", "Poland": "Warsaw", "Austria": "Vienna",
    "Greece": "Athens", "Portugal": "Lisbon", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Ireland": "Dublin", "Belgium": "Brussels", "Hungary": "Budapest", "Romania": "Bucharest",
    "Bulgaria": "Sofia", "Serbia": "Belgrade", "Croatia": "Zagreb", "Turkey": "Ankara", "Russia": "Moscow",
    "Ukraine": "Kyiv", "China": "Beijing", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Cuba": "Havana",
    "Peru": "Lima", "Chile": "Santiago", "Kenya": "Nairobi", "Ghana": "Accra", "Canada": "Ottawa", "Iran": "Tehran",
    "Iraq": "Baghdad",
}  # fmt: skip
PADDING = (
    "There is a great deal that one could say about {0}. It is a city in {1}, and many people live there. Some of them "
    "have been there for a long time, and others have come more recently. As with many cities, opinions of it differ, "
    "and there are many things to keep in mind."
)

Row = dict[str, str]


@dataclass(frozen=True)
class Plan:
    """A run to record: `how` it was provoked (for a healthy one: what it is), and the rules that it `shows`."""

    how: str
    shows: tuple[str, ...] = ()
    method: str = "dpo"
    data: str = "starter"
    limit: int = 24
    held_out: int = 8
    settings: dict[str, Any] = field(default_factory=dict)
    from_adapter: str = ""
    pinned: tuple[str, ...] = ()


PLANS: dict[str, Plan] = {
    # Healthy.
    "dpo-default": Plan("The starter data at its defaults: DPO with the SFT term, two passes."),
    "dpo-sigmoid": Plan(
        "DPO alone at a moderate rate.", settings={"loss": "sigmoid", "learning_rate": 2e-4, "epochs": 1}
    ),
    "dpo-ipo": Plan(
        "The IPO loss with the SFT term, another seed.",
        settings={"loss": "ipo+sft", "learning_rate": 3e-4, "epochs": 1, "seed": 7},
    ),
    "sft": Plan("SFT on the starter data at its defaults.", method="sft"),
    "sft-then-dpo": Plan(
        "DPO alone from the adapter of that SFT, at a low rate.",
        settings={"loss": "sigmoid", "learning_rate": 1e-4, "epochs": 1},
        from_adapter="sft",
    ),
    "hh-sft": Plan("SFT on HH-RLHF.", method="sft", data="hh", limit=40, settings={"epochs": 1}),
    "dpo-apo": Plan(
        "The APO-zero loss, recorded after the thresholds were set.",
        settings={"loss": "apo_zero", "learning_rate": 2e-4, "epochs": 1, "seed": 3},
    ),
    # Provoked.
    "hh-low-rate": Plan(
        "HH-RLHF at 1e-5, a rate for a 7B base.",
        ("nothing_moves",),
        data="hh",
        settings={"loss": "sigmoid", "learning_rate": 1e-5, "epochs": 1},
    ),
    "inert-sft": Plan(
        "SFT at 1e-7.",
        ("nothing_moves",),
        method="sft",
        data="hh",
        limit=40,
        settings={"learning_rate": 1e-7, "epochs": 1},
    ),
    "hh-high-rate": Plan(
        "HH-RLHF at 1e-3, two passes: every pair right in the second, and held-out pairs by chance.",
        ("too_sure", "forgets"),
        data="hh",
        limit=48,
        held_out=16,
        settings={"loss": "sigmoid", "learning_rate": 1e-3, "looks": 3},
    ),
    "after-sft-high": Plan(
        "DPO alone at 1e-3 from the adapter of the SFT: every pair right from the third step, the loss 0.000 from the "
        "eighth.",
        ("too_sure",),
        settings={"loss": "sigmoid", "learning_rate": 1e-3, "epochs": 1},
        from_adapter="sft",
    ),
    "too-high": Plan(
        "Learning rate 5e-3 without warm-up: it ends in 'you can not and you can not'.",
        ("both_fall", "margin_in_noise", "gradient_spikes", "forgets"),
        data="hh",
        limit=32,
        settings={"loss": "sigmoid", "learning_rate": 5e-3, "warmup": 0.0, "epochs": 1},
    ),
    "sft-too-high": Plan(
        "SFT at 1e-2 without warm-up: the gradient's norm goes from 4 to 13 and back, and its words go in circles.",
        ("gradient_spikes", "forgets"),
        method="sft",
        data="hh",
        limit=40,
        settings={"learning_rate": 1e-2, "warmup": 0.0, "epochs": 1},
    ),
    "hh-form": Plan(
        "HH-RLHF, which reply is chosen drawn by lot, with the SFT term.",
        ("margin_in_noise", "learns_form"),
        data="hh tossed",
        settings={"learning_rate": 3e-4, "epochs": 1},
    ),
    "ranks": Plan(
        "DPO alone at 5e-5: every pair right, and responses that differ in their last sentences.",
        ("ranks_not_speaks",),
        limit=40,
        held_out=16,
        settings={"loss": "sigmoid", "learning_rate": 5e-5, "epochs": 1, "looks": 3},
    ),
    "ranks-hinge": Plan(
        "The hinge loss at 4e-5, recorded after the thresholds were set.",
        ("ranks_not_speaks",),
        limit=32,
        settings={"loss": "hinge", "learning_rate": 4e-5, "epochs": 1, "seed": 3},
    ),
    "cut": Plan(
        "A max length of 112, over which half of the starter's replies reach.",
        ("replies_cut",),
        settings={"max_length": 112, "epochs": 1},
    ),
    "longer": Plan(
        "Each chosen reply is the rejected one with four sentences more that say nothing.",
        ("grows_long", "forgets"),
        data="padded",
        pinned=CAPITALS_ASKED,
    ),
}


def _starter(_: Path | None) -> list[Row]:
    return [json.loads(line) for line in STARTER_ROWS.read_text(encoding="utf-8").splitlines()]


def _padded(_: Path | None) -> list[Row]:
    """Short questions, answered shortly, and once more with padding: the longer reply is always the chosen one."""
    return [
        {"chosen": f"{asked} {answer} {PADDING.format(city, country)}", "rejected": f"{asked} {answer}"}
        for country, city in CAPITALS.items()
        for asked in (f"\n\nHuman: What is the capital of {country}?\n\nAssistant:",)
        for answer in (f"The capital of {country} is {city}.",)
    ]


def _hh(path: Path | None) -> list[Row]:
    if path is None:
        raise SystemExit("This run needs --hh: a .jsonl.gz file of HH-RLHF.")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if max(map(len, row.values())) < HH_MOST_CHARS]


def _hh_tossed(path: Path | None) -> list[Row]:
    """Which reply is the chosen one is drawn by lot: there is nothing to learn."""
    draw = random.Random(1)
    return [_swapped(row) if draw.random() < 0.5 else row for row in _hh(path)]


def _swapped(row: Row) -> Row:
    return {"chosen": row["rejected"], "rejected": row["chosen"]}


DATA: dict[str, Callable[[Path | None], list[Row]]] = {
    "starter": _starter, "padded": _padded, "hh": _hh, "hh tossed": _hh_tossed,
}  # fmt: skip


def record(name: str, home: Path, hh: Path | None) -> None:
    """Train the run in `home`, where it is not there yet, and keep what a rule needs of it."""
    plan = PLANS[name]
    if not paths.run_dir(name).exists():
        _train(name, plan, home, hh)
    paths.write_text(FOLDER / f"{name}.json", _as_text(plan, coach.evidence_of(name)))


def _train(name: str, plan: Plan, home: Path, hh: Path | None) -> None:
    data, config = home / f"{name}.jsonl", home / f"{name}.yaml"
    data.write_text("".join(json.dumps(row) + "\n" for row in DATA[plan.data](hh)), encoding="utf-8")
    settings = {"max_length": MAX_LENGTH, "batch_size": 2, "looks": 2, **plan.settings}
    asked: dict[str, Any] = {"method": plan.method, "dataset": str(data), "settings": settings}
    asked |= {"from_adapter": plan.from_adapter} if plan.from_adapter else {}
    asked |= {"pinned": list(plan.pinned)} if plan.pinned else {}
    config.write_text(yaml.safe_dump(asked), encoding="utf-8")
    flags = ["--config", str(config), "--run", name, "--limit", str(plan.limit), "--held-out", str(plan.held_out)]
    command = [sys.executable, str(paths.PROJECT_ROOT / "playground.py"), "train", *flags, "--no-trait", "--json"]
    subprocess.run(command, check=True, env=os.environ | {"PLAYGROUND_HOME": str(home)})


def _as_text(plan: Plan, evidence: coach.Evidence) -> str:
    """JSON with a line a row, so that a change can be read."""
    head = {"how": plan.how, "shows": plan.shows, "data": plan.data, "method": evidence.method, "steps": evidence.steps,
            "settings": evidence.settings, "facts": evidence.facts, "result": evidence.result,
            "prompts": evidence.timeline.prompts, "base": evidence.timeline.base}  # fmt: skip
    looks = [vars(look) for look in evidence.timeline.looks]
    rows = [{key: row[key] for key in row if key in KEPT} for row in evidence.rows]
    parts = [f" {json.dumps(key)}: {json.dumps(_rounded(value))}" for key, value in head.items()]
    parts += [f" {json.dumps(key)}: [\n{_lines(values)}\n ]" for key, values in (("looks", looks), ("rows", rows))]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(values: Iterable[Any]) -> str:
    return ",\n".join(f"  {json.dumps(_rounded(value))}" for value in values)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def main() -> None:
    parser = argparse.ArgumentParser(description="Record runs for the coach; without names, list them.")
    parser.add_argument("names", nargs="*", choices=[*PLANS, []])
    parser.add_argument("--home", type=Path, help="a folder for the runs, kept")
    parser.add_argument("--hh", type=Path, help="a .jsonl.gz file of HH-RLHF, for the runs on it")
    asked = parser.parse_args()
    if not asked.names:
        print("\n".join(f"{name}: {plan.how}" for name, plan in PLANS.items()))
        return
    if asked.home is None:
        parser.error("Say where the runs are to be made: --home FOLDER, with the starter model in its models/base.")
    os.environ["PLAYGROUND_HOME"] = str(asked.home)
    for name in asked.names:
        record(name, asked.home, asked.hh)


if __name__ == "__main__":
    main()
