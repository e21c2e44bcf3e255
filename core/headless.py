"""The commands' work, on the same code as the engine, in this process. Progress goes to stderr, results to stdout."""

import argparse
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import (
    adapters,
    catalogue,
    device,
    evaluate,
    generate,
    inspection,
    paths,
    run_progress,
    run_request,
    runner,
    runs,
    sources,
)
from core.client import Chunk, Response, RunRequest, Turn
from core.compare import Comparison
from core.errors import JudgeError, PlaygroundError, RequestError
from core.export import check_csv_path, write_csv
from core.judge import Judge, load_judge
from core.loader import BASE, ResidentModel
from core.messages import Conversation, Message, Role, ask
from core.prompt_sets import load_set
from core.prompts import Prompt, read_prompts
from core.recipes import RECIPES
from core.redact import api_key
from core.report import headline, sections
from core.runs import Run, RunStatus
from core.settings import COMPARISON, DATA, DECODING, TRAINING, Decoding, Settings, Size, parse_method
from core.standing import Decider

# Libraries warn of their own future; a terminal is for what concerns the user.
warnings.simplefilter("ignore")

SAY_EVERY_S = 2.0
RESUME = "Resume it with: python playground.py train --run {} --resume"
Result = tuple[dict[str, Any] | None, int]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load(model: str) -> ResidentModel:
    """The base by name; `starter`, or nothing, is the starter."""
    paths.ensure_home()
    name = paths.STARTER_NAME if model in ("", "starter") else catalogue.full_name(model)
    last = ""

    def progress(message: str, _: float | None) -> None:
        nonlocal last
        if message != last:
            say(message)
        last = message

    folder = catalogue.bring(name, api_key("HUGGINGFACE_TOKEN"), progress)
    chosen = device.choose(catalogue.num_parameters(folder))
    say(f"{folder.name} on {chosen.kind} in {chosen.dtype_name} ({chosen.reason})")
    return ResidentModel(folder, chosen, name)


def load_for(adapter: str, model: str) -> ResidentModel:
    """The base that the adapter was trained on, unless another is named."""
    return load(model or str(adapters.read_manifest(adapters.find(adapter)).get("model", "")))


# train


def train(asked: argparse.Namespace) -> Result:
    name, resident = _resumed(asked) if asked.resume else _started(asked)
    control = run_progress.Control()
    teller = _Teller(name)
    control.serve = teller.tick
    with _interrupts(control):
        run = runner.execute(resident, name, control, is_resumed=asked.resume)
    if run.status is RunStatus.FAILED:
        raise PlaygroundError(run.reason)
    if run.status in (RunStatus.STOPPED, RunStatus.INTERRUPTED):
        say(f"{run.name} is {run.status} at step {run.step} of {run.steps}. {RESUME.format(run.name)}")
    else:
        say(f"{run.name} is finished: {adapters.find(run.name)}")
    if asked.recipe == "seed" and run.status is RunStatus.FINISHED:
        return {**_figures(run), "comparison": _seed_comparison(resident, run.name)}, 0
    return _figures(run), {RunStatus.STOPPED: 130, RunStatus.INTERRUPTED: 1}.get(run.status, 0)


def _started(asked: argparse.Namespace) -> tuple[str, ResidentModel]:
    request = read_request(asked)
    _check(request)
    resident = load(request.model)
    return run_request.prepare(resident, request, api_key("HUGGINGFACE_TOKEN")).name, resident


def _check(request: RunRequest) -> None:
    """Whatever can be seen to be wrong before a base is fetched and loaded; RequestError as a sentence."""
    Settings.of(parse_method(request.method), Size.LARGE, request.settings)
    if not request.config:
        sources.check(request.dataset)
    if request.run and paths.run_dir(request.run).exists():
        raise RequestError(runs.TAKEN.format(request.run))
    if request.from_adapter:
        adapters.find(request.from_adapter)


def _resumed(asked: argparse.Namespace) -> tuple[str, ResidentModel]:
    if not asked.run:
        raise RequestError("--resume needs --run NAME: which run is to go on?")
    runner.check_resumable(asked.run)
    _check_unchanged(asked)
    resident = load(asked.model or runs.read_config(paths.run_dir(asked.run) / "run.yaml").get("model", ""))
    runner.read_work(resident, paths.run_dir(asked.run))
    return asked.run, resident


def _check_unchanged(asked: argparse.Namespace) -> None:
    """RequestError where a flag asks for something else than the run was started with."""
    config = runs.read_config(paths.run_dir(asked.run) / "run.yaml")
    started = {"method": config.get("method"), **(config.get("settings") or {})}
    given = {"method": asked.method, **{n: getattr(asked, n) for n in TRAINING if getattr(asked, n) is not None}}
    for name, value in given.items():
        wanted = TRAINING[name].check(value) if name in TRAINING else value
        if wanted is not None and name in started and started[name] != wanted:
            raise RequestError(
                f"The run '{asked.run}' was started with {name} {started[name]}, and goes on as it was started, not "
                f"with {wanted}. Leave that out, or start a new run."
            )


def read_request(asked: argparse.Namespace) -> RunRequest:
    """Flags over the configuration, or over the recipe; RequestError where both say too little."""
    given = {name: value for name in TRAINING if (value := getattr(asked, name)) is not None}
    if asked.recipe:
        request = RECIPES[asked.recipe].request
    elif asked.config:
        request = run_request.with_config(RunRequest(config=asked.config))
    else:
        request = RunRequest()
    request = replace(
        request,
        method=asked.method or request.method,
        dataset=asked.dataset or request.dataset,
        model=asked.model or request.model,
        run=paths.check_name(asked.run) if asked.run else "",
        from_adapter=asked.from_adapter or request.from_adapter,
        limit=request.limit if asked.limit is None else DATA["limit"].check(asked.limit),
        held_out=request.held_out if asked.held_out is None else DATA["held_out"].check(asked.held_out),
        is_trait_counted=request.is_trait_counted and not asked.no_trait,
        settings={**request.settings, **given},
        config="" if asked.dataset else request.config,
    )
    if not request.method:
        raise RequestError("Say how to teach: --method sft or --method dpo (or --recipe, or --config).")
    if not request.dataset:
        raise RequestError("Say what to teach from: --dataset starter, a .jsonl file, or a Hub id.")
    return request


def _figures(run: Run) -> dict[str, Any]:
    keys = (
        "pairs", "loss", "reward_accuracy", "reward_margin", "preference_accuracy_base", "preference_accuracy_tuned",
        "train_s", "peak_memory_bytes",
    )  # fmt: skip
    folder = runs.adapter_dir(run.name)
    return {
        "run": run.name,
        "status": str(run.status),
        "steps": run.step,
        **{key: run.result.get(key) for key in keys},
        "held_out": run.result.get("held_out"),
        "left_out": run.result.get("left_out"),
        "trait": run.result.get("trait"),
        "adapter": str(folder.resolve()) if folder.is_dir() else None,
    }


class _Teller:
    """Says now and then where a run stands; called between its micro-steps."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said_at = 0.0

    def tick(self) -> None:
        if time.monotonic() - self.said_at < SAY_EVERY_S:
            return
        self.said_at = time.monotonic()
        run = runs.read_run(self.name)
        left = f", {run.eta_s:.0f} s left" if run.eta_s else ""
        loss = next((f", loss {row['loss']:.3f}" for row in reversed(runs.read_metrics(self.name))), "")
        say(f"{run.phase} {run.phase_done}/{run.phase_total}{left}{loss if run.phase == 'training' else ''}")


class _interrupts:
    """Inside, Ctrl-C ends the run after its step, a second one at once; SIGTERM commits and ends."""

    def __init__(self, control: run_progress.Control) -> None:
        self.control = control
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self._stop)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _: object) -> None:
        if number == signal.SIGTERM:
            self.control.interruption = "It was asked to end while it trained. Resume goes on from where it stood."
        elif self.control.is_stopping:
            raise KeyboardInterrupt
        say("Stopping after this step; press Ctrl-C again to quit at once.")
        self.control.is_stopping = True


def _seed_comparison(resident: ResidentModel, adapter: str) -> dict[str, Any] | None:
    """The seed recipe ends with the five prompts before Gemini; without a key it says how to go on."""
    if not api_key("GEMINI_API_KEY"):
        say(f"Without a GEMINI_API_KEY nobody judges. Vote yourself in the app, under Compare, on {adapter}.")
        return None
    resident.attach(adapter)
    judge = load_judge()
    return hold_against_base(
        resident, _begun(adapter, resident.name, load_set("quick"), Decoding(), judge.model), judge
    )


# compare, chat, check


def compare(asked: argparse.Namespace) -> Result:
    csv = check_csv_path(asked.csv) if asked.csv else None
    if asked.replay:
        return _reported(Comparison.open(Path(asked.replay)), csv), 0
    begun = Comparison.open(Path(asked.resume)) if asked.resume else None
    adapter = begun.plan.adapter if begun else asked.adapter
    if not adapter:
        raise RequestError("Say what to hold against its base: --adapter NAME (or --resume or --replay JOURNAL).")
    if begun:
        begun.check_unchanged()
    adapters.find(adapter)
    decoding = Decoding.of(**{name: value for name in DECODING if (value := getattr(asked, name)) is not None})
    prompts = _prompts(asked.prompts, adapter) if not begun else []
    judge_model = begun.plan.judge_model if begun else asked.judge == "gemini"
    judge = load_judge(*([judge_model] if begun else [])) if judge_model else None
    resident = load_for(adapter, asked.model)
    resident.attach(adapter)
    comparison = begun or _begun(adapter, resident.name, prompts, decoding, judge.model if judge else "", asked)
    return hold_against_base(resident, comparison, judge, csv), 0


def _prompts(asked: str, adapter: str) -> list[Prompt]:
    """A set by its name, or a file."""
    is_file = asked.endswith(".json") or Path(asked).name != asked
    return read_prompts(Path(asked)) if is_file else load_set(asked or "quick", adapter)


def _begun(
    adapter: str,
    base: str,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    judge_model: str,
    asked: argparse.Namespace | None = None,
) -> Comparison:
    """A new comparison that only the judge decides."""
    chosen = {name: setting.default for name, setting in COMPARISON.items()}
    if asked is not None:
        given = {name: getattr(asked, name) for name in COMPARISON if getattr(asked, name) is not None}
        chosen |= {name: COMPARISON[name].check(value) for name, value in given.items()}
    seed = TRAINING["seed"].check(asked.seed) if asked is not None and asked.seed is not None else 0
    num_placebos = round(chosen["placebo_share"] * len(prompts))
    return Comparison.create(
        adapter, base, prompts, decoding, judge_model, seed, chosen["samples"], num_placebos, Decider.JUDGE,
        is_judge_only=True,
    )  # fmt: skip


def hold_against_base(
    resident: ResidentModel, comparison: Comparison, judge: Judge | None, csv: Path | None = None
) -> dict[str, Any]:
    """The comparison to its end, judged or not: a judge that gives up leaves the rest without a verdict, by name."""

    def answer(turns: list[Turn], decoding: Decoding) -> list[Response]:
        return generate.answer(resident, turns, decoding, on_progress=_share("answering"))

    def drift(asked: Sequence[tuple[Conversation, str]]) -> list[float]:
        return evaluate.drift(resident, comparison.plan.adapter, asked)

    try:
        comparison.run(answer, judge, on_progress=lambda phase, n, total: say(f"{phase} {n}/{total}"), drift=drift)
    except JudgeError as error:
        say(str(error))
        comparison.end_early()
    return _reported(comparison, csv)


def _reported(comparison: Comparison, csv: Path | None) -> dict[str, Any]:
    """What it came to, said and written: counts, win rate, and where CSV, log and journal are."""
    results = comparison.results()
    if results is None:
        raise RequestError(
            f"The comparison in {comparison.path.name} is not finished. Go on with it: python playground.py compare "
            f"--resume {comparison.path}, or vote on it in the app, under Compare."
        )
    tally = results.decisive_tally
    csv = csv or comparison.path.with_suffix(".csv")
    write_csv(results.rows, csv)
    counts = {key: getattr(tally, key) for key in ("n", "wins", "ties", "losses", "flips", "no_verdict")}
    shares = {key: getattr(tally, key) for key in ("win_rate", "low", "high")}
    say(headline(results))
    for title, lines in sections(results):
        say("\n".join([title, *(f"  {line}" for line in lines)]))
    files = {"csv": csv, "log": comparison.log_path, "journal": comparison.path}
    return {**counts, **shares, **{name: str(path.resolve()) for name, path in files.items()}}


def _share(what: str) -> Callable[[int, int], None]:
    said_at = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > SAY_EVERY_S:
            said_at = time.monotonic()
            say(f"{what}: {done} of at most {total} tokens")

    return tell


def chat(asked: argparse.Namespace) -> Result:
    resident = load(asked.model) if asked.adapter == BASE else load_for(asked.adapter, asked.model)
    if asked.adapter != BASE:
        resident.attach(asked.adapter)
    if asked.prompt:
        response = _respond(resident, asked.adapter, ask(asked.prompt), is_quiet=asked.json)
        return {"response": response.text, "num_tokens": response.num_tokens, "is_cut": response.is_cut}, 0
    say("An empty line ends the conversation.")
    conversation: Conversation = ()
    while line := _read_line():
        conversation = (*conversation, Message(Role.USER, line))
        response = _respond(resident, asked.adapter, conversation, is_quiet=False)
        conversation = (*conversation, Message(Role.ASSISTANT, response.text))
    return {"turns": len(conversation) // 2}, 0


def _read_line() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _respond(resident: ResidentModel, contender: str, conversation: Conversation, is_quiet: bool) -> Response:
    final: list[Response] = []

    def emit(chunk: Chunk) -> None:
        if chunk.response is not None:
            final.append(chunk.response)
        if not is_quiet:
            print(_printable(chunk.text), end="", flush=True)

    generate.stream(resident, [Turn(contender, conversation)], Decoding(), emit)
    if not is_quiet:
        print()
    return final[0]


def _printable(text: str) -> str:
    """Model text with nothing in it that a terminal would obey."""
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def check(asked: argparse.Namespace) -> Result:
    report = inspection.check(load_for(asked.adapter, asked.model), asked.adapter)
    for problem in report.problems:
        say(problem)
    if report.ok and not asked.json:
        print(f"{asked.adapter} is sound. It says: {_printable(report.response)}")
    return {"ok": report.ok, "problems": report.problems}, 0 if report.ok else 1


COMMANDS: dict[str, Callable[[argparse.Namespace], Result]] = {
    "train": train,
    "compare": compare,
    "chat": chat,
    "check": check,
}
