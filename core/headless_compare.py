"""The command `compare`: a whole blind comparison from a terminal, judged by Gemini or by nobody, and its replay."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import adapters, evaluate, generate
from core.compare import Comparison
from core.errors import JudgeError, RequestError
from core.export import check_csv_path, write_csv
from core.judge import DEFAULT_MODEL, Judge, load_judge
from core.loader import ResidentModel
from core.messages import Conversation
from core.prompt_sets import load_set
from core.prompts import Prompt, read_prompts
from core.redact import api_key
from core.report import headline, sections
from core.settings import COMPARISON, COMPARISON_SEED, DECODING, Decoding, Setting
from core.standing import Decider
from core.terminal import Result, load_for, say, seldom
from core.wire import Response, Turn

# Of the JSON, as `Tally` names them.
FIGURES = ("n", "wins", "ties", "losses", "flips", "no_verdict", "win_rate", "low", "high")


def compare(asked: argparse.Namespace) -> Result:
    csv = check_csv_path(asked.csv) if asked.csv else None
    if asked.replay or asked.resume:
        _refuse_changes(asked)
    if asked.replay:
        return _reported(Comparison.open(Path(asked.replay)), csv), 0
    begun = Comparison.open(Path(asked.resume)) if asked.resume else None
    adapter = begun.plan.adapter if begun else asked.adapter
    if not adapter:
        raise RequestError("Say what to hold against its base: --adapter NAME (or --resume or --replay JOURNAL).")
    if begun:
        begun.check_unchanged()
    adapters.find(adapter)
    decoding = Decoding.of(**_given(asked, DECODING))
    prompts = _prompts(asked.prompts, adapter) if not begun else []
    size = _given(asked, COMPARISON | {"seed": COMPARISON_SEED})
    judge_model = begun.plan.judge_model if begun else DEFAULT_MODEL if asked.judge == "gemini" else ""
    judge = load_judge(judge_model) if judge_model else None
    resident = load_for(adapter, asked.model)
    resident.attach(adapter)
    comparison = begun or _begun(adapter, resident.name, prompts, decoding, judge_model, **size)
    return hold_against_base(resident, comparison, judge, csv), 0


def _refuse_changes(asked: argparse.Namespace) -> None:
    """RequestError where a flag asks for what the journal has settled already."""
    settled = ["adapter", "prompts", *COMPARISON, *DECODING, "seed"]
    given = next((name for name in settled if getattr(asked, name) not in (None, "")), "")
    if given:
        raise RequestError(
            f"A comparison goes on as it was begun, so --{given.replace('_', '-')} cannot be given with --resume or "
            "--replay. Leave it out, or start a new comparison."
        )


def _prompts(asked: str, adapter: str) -> list[Prompt]:
    """A set by its name, or a file."""
    is_file = asked.endswith(".json") or Path(asked).name != asked
    return read_prompts(Path(asked)) if is_file else load_set(asked or "quick", adapter)


def _given(asked: argparse.Namespace, table: Mapping[str, Setting]) -> dict[str, Any]:
    """What the flags say of these settings; SettingError where one is out of range."""
    return {
        name: setting.check(value) for name, setting in table.items() if (value := getattr(asked, name)) is not None
    }


def _begun(
    adapter: str,
    base: str,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    judge_model: str,
    samples: int = COMPARISON["samples"].default,
    placebo_share: float = COMPARISON["placebo_share"].default,
    seed: int = COMPARISON_SEED.default,
) -> Comparison:
    """A new comparison that only the judge decides."""
    return Comparison.create(
        adapter, base, prompts, decoding, judge_model, seed, samples, round(placebo_share * len(prompts)),
        Decider.JUDGE, is_judge_only=True,
    )  # fmt: skip


def hold_against_base(
    resident: ResidentModel, comparison: Comparison, judge: Judge | None, csv: Path | None = None
) -> dict[str, Any]:
    """The comparison to its end, judged or not: a judge that gives up leaves the rest without a verdict, by name."""

    def answer(turns: list[Turn], decoding: Decoding) -> list[Response]:
        tell = seldom(lambda done, total: say(f"answering: {done} of at most {total} tokens"))
        return generate.answer(resident, turns, decoding, on_progress=tell)

    def drift(asked: Sequence[tuple[Conversation, str]]) -> list[float]:
        return evaluate.drift(resident, comparison.plan.adapter, asked)

    try:
        comparison.run(answer, judge, on_progress=lambda phase, n, total: say(f"{phase} {n}/{total}"), drift=drift)
    except JudgeError as error:
        say(str(error))
        # A vote that is still going on is the person's to end.
        if comparison.plan.is_judge_only:
            comparison.end_early()
    return _reported(comparison, csv)


def _reported(comparison: Comparison, csv: Path | None) -> dict[str, Any]:
    """What it came to, said and written: counts, win rate, and where CSV, log and journal are."""
    results = comparison.results()
    if results is None:
        raise RequestError(
            f"The comparison in {comparison.path.name} is not finished. "
            + (
                "Go on with it: python playground.py compare --resume " + str(comparison.path) + "."
                if comparison.plan.is_judge_only
                else "Its votes are given in the app, under Compare."
            )
        )
    tally = results.decisive_tally
    csv = csv or comparison.path.with_suffix(".csv")
    write_csv(results.rows, csv)
    say(headline(results))
    for title, lines in sections(results):
        say("\n".join([title, *(f"  {line}" for line in lines)]))
    files = {"csv": csv, "log": comparison.log_path, "journal": comparison.path}
    figures = {name: getattr(tally, name) for name in FIGURES}
    return figures | {name: str(path.resolve()) for name, path in files.items()}


def compare_five(resident: ResidentModel, adapter: str) -> dict[str, Any] | None:
    """The seed recipe ends with the five prompts before Gemini; without a key it says how to go on."""
    if not api_key("GEMINI_API_KEY"):
        say(f"Without a GEMINI_API_KEY nobody judges. Vote yourself in the app, under Compare, on {adapter}.")
        return None
    resident.attach(adapter)
    judge = load_judge()
    comparison = _begun(adapter, resident.name, load_set("quick"), Decoding(), judge.model)
    return hold_against_base(resident, comparison, judge)
