"""The commands' work, on the same code as the engine, in this process. Progress goes to stderr, results to stdout."""

import argparse
import contextlib
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from core import (
    adapters,
    awake,
    device,
    generate,
    history,
    inspection,
    locks,
    paths,
    ranks,
    run_progress,
    run_request,
    run_work,
    runner,
    runs,
    takeaway,
)
from core.columns import ROLES
from core.errors import PlaygroundError, RequestError
from core.headless_compare import compare, compare_five
from core.loader import BASE, ResidentModel
from core.messages import Conversation, Message, Role, ask
from core.recipes import RECIPES
from core.redact import api_key, for_terminal
from core.runs import Run, RunStatus
from core.settings import DATA, STRENGTH, TRAINING, Decoding
from core.terminal import Result, load, load_for, say, seldom
from core.wire import Chunk, Response, RunRequest, Turn

# Libraries warn of their own future; a terminal is for what concerns the user.
warnings.simplefilter("ignore")

# train


def train(asked: argparse.Namespace) -> Result:
    """The main process's part, where several were launched: the others do what it begins to train (`follower`)."""
    if ranks.is_sharding():
        raise RequestError(
            "Each process holds the whole base: launch it as plain multi-GPU, without FSDP or DeepSpeed."
        )
    if not ranks.join(device.best_kind() == "cpu"):
        raise RequestError(
            "Several processes train on CUDA cards or on CPUs alone: start it without accelerate launch."
        )
    try:
        return _train(asked)
    finally:
        ranks.dismiss()


def _train(asked: argparse.Namespace) -> Result:
    with locks.training():
        name, resident = _resumed(asked) if asked.resume else _started(asked)
        control = run_progress.Control(serve=_telling(name))
        with _interrupts(control):
            run = runner.execute(resident, name, control, is_resumed=asked.resume)
            while (following := runner.next_of(resident, run)) and not control.is_stopping:
                say(f"{run.name} is finished; {following.name} goes on from it.")
                control.serve = _telling(following.name)
                run = runner.execute(resident, following.name, control)
    awake.notify(f"{run.name}: {run.status}", run.reason)
    if run.status is RunStatus.FAILED:
        raise PlaygroundError(run.reason)
    if run.status in (RunStatus.STOPPED, RunStatus.INTERRUPTED):
        how = history.resume_command(run.name)
        say(f"{run.name} is {run.status} at step {run.step} of {run.steps}. Resume it with: {how}")
    else:
        say(f"{run.name} is finished: {adapters.find(run.name)}")
    if asked.recipe == "seed" and run.status is RunStatus.FINISHED:
        return {**_figures(run), "comparison": compare_five(resident, run.name)}, 0
    return _figures(run), {RunStatus.STOPPED: 130, RunStatus.INTERRUPTED: 1}.get(run.status, 0)


def _started(asked: argparse.Namespace) -> tuple[str, ResidentModel]:
    request, data = run_request.check(read_request(asked), api_key("HUGGINGFACE_TOKEN"))
    resident = load(request.model)
    return run_request.prepare(resident, request, data).name, resident


def _resumed(asked: argparse.Namespace) -> tuple[str, ResidentModel]:
    if not asked.run:
        raise RequestError("--resume needs --run NAME: which run is to go on?")
    runner.check_resumable(asked.run)
    _check_unchanged(asked)
    resident = load(asked.model or runs.read_config(paths.run_dir(asked.run) / "run.yaml").get("model", ""))
    run_work.read(resident, paths.run_dir(asked.run))
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
    if asked.recipe and asked.config:
        raise RequestError("Give --recipe or --config, not both: each is a whole run of its own.")
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
        split_seed=DATA["split_seed"].check(asked.split_seed or 0),
        columns=_columns(asked.columns),
        pinned=tuple(asked.pin) if asked.pin else request.pinned,
        held_out=request.held_out if asked.held_out is None else DATA["held_out"].check(asked.held_out),
        is_trait_counted=request.is_trait_counted and not asked.no_trait,
        settings={**request.settings, **given},
        config="" if asked.dataset else request.config,
    )
    if not request.method:
        raise RequestError("Say how to teach: --method sft, dpo or sft+dpo (or --recipe, or --config).")
    if not request.dataset:
        raise RequestError("Say what to teach from: --dataset starter, a .jsonl file, or a Hub id.")
    return request


def _columns(text: str) -> dict[str, str]:
    """What "prompt=question,chosen=best" says of the data's columns."""
    named = dict(part.partition("=")[::2] for part in text.split(",")) if text else {}
    if not set(named) <= set(ROLES) or not all(named.values()):
        raise RequestError(f"--columns says what holds {', '.join(ROLES)}, as in prompt=question,chosen=best.")
    return named


def _figures(run: Run) -> dict[str, Any]:
    keys = (
        "pairs", "loss", "reward_accuracy", "reward_margin", "preference_accuracy_base", "preference_accuracy_tuned",
        "train_s", "peak_memory_bytes",
    )  # fmt: skip
    folder = runs.adapter_dir(run.name)
    return {
        "run": run.name,
        "status": str(run.status),
        "follows": run.facts.get("follows"),
        "steps": run.step,
        **{key: run.result.get(key) for key in keys},
        "held_out": run.result.get("held_out"),
        "left_out": run.result.get("left_out"),
        "trait": run.result.get("trait"),
        "adapter": str(folder.resolve()) if folder.is_dir() else None,
    }


def _telling(name: str) -> Callable[[], None]:
    """Says now and then where a run stands; to be called between its micro-steps."""

    def tell() -> None:
        run = runs.read_run(name)
        left = f", {run.eta_s:.0f} s left" if run.eta_s else ""
        loss = next((f", loss {row['loss']:.3f}" for row in reversed(runs.read_metrics(name))), "")
        say(f"{run.phase} {run.phase_done}/{run.phase_total}{left}{loss if run.phase == 'training' else ''}")

    return seldom(tell)


@contextlib.contextmanager
def _interrupts(control: run_progress.Control) -> Iterator[None]:
    """Inside, Ctrl-C ends the run after its step, a second one at once; SIGTERM commits and ends."""

    def stop(number: int, _: object) -> None:
        if number == signal.SIGTERM:
            control.interruption = "It was asked to end while it trained. Resume goes on from where it stood."
        elif control.is_stopping:
            raise KeyboardInterrupt
        say("Stopping after this step; press Ctrl-C again to quit at once.")
        control.is_stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# chat, check, merge


def chat(asked: argparse.Namespace) -> Result:
    strength = STRENGTH.check(STRENGTH.default if asked.strength is None else asked.strength)
    resident = load(asked.model) if asked.adapter == BASE else load_for(asked.adapter, asked.model)
    if asked.adapter != BASE:
        resident.attach(asked.adapter)
    if asked.prompt:
        response = _respond(resident, Turn(asked.adapter, ask(asked.prompt), strength), is_quiet=asked.json)
        return {"response": response.text, "num_tokens": response.num_tokens, "is_cut": response.is_cut}, 0
    say("An empty line ends the conversation.")
    conversation: Conversation = ()
    while line := _read_line():
        conversation = (*conversation, Message(Role.USER, line))
        response = _respond(resident, Turn(asked.adapter, conversation, strength), is_quiet=False)
        conversation = (*conversation, Message(Role.ASSISTANT, response.text))
    return {"turns": len(conversation) // 2}, 0


def _read_line() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _respond(resident: ResidentModel, turn: Turn, is_quiet: bool) -> Response:
    final: list[Response] = []

    def emit(chunk: Chunk) -> None:
        if chunk.response is not None:
            final.append(chunk.response)
        if not is_quiet:
            print(for_terminal(chunk.text), end="", flush=True)

    generate.stream(resident, [turn], Decoding(), emit)
    if not is_quiet:
        print()
    return final[0]


def check(asked: argparse.Namespace) -> Result:
    report = inspection.check(load_for(asked.adapter, asked.model), asked.adapter)
    for problem in report.problems:
        say(problem)
    if report.ok and not asked.json:
        print(f"{asked.adapter} is sound. It says: {for_terminal(report.response)}")
    return {"ok": report.ok, "problems": report.problems}, 0 if report.ok else 1


def merge(asked: argparse.Namespace) -> Result:
    def tell(done: int, total: int) -> None:
        if 4 * done // total > 4 * (done - 1) // total:
            say(f"merging {done}/{total}")

    merged = takeaway.merge(load_for(asked.adapter, asked.model), asked.adapter, tell)
    say(merged.sentence)
    if not asked.json:
        print(for_terminal(f"Base and {asked.adapter} as one model: {merged.folder}"))
    return {"folder": merged.folder, "largest_difference": merged.largest_difference}, 0


COMMANDS: dict[str, Callable[[argparse.Namespace], Result]] = {
    "train": train,
    "compare": compare,
    "chat": chat,
    "check": check,
    "merge": merge,
}
