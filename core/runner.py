"""A run from its request to its end: data, tokens, reference, training, the adapter, the held-out figures.

What a run is lives in its folder, so starting and resuming are the same work from the same files. Used by the
engine and by the commands; both hand in a `Control`, through which a run serves, pauses and stops.
"""

import contextlib
import logging
import math
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import (
    adapters,
    awake,
    checkpoints,
    disk,
    estimate,
    evaluate,
    history,
    model_card,
    paths,
    ranks,
    reference_file,
    run_request,
    run_work,
    runs,
    shared_prefix,
    standstill,
    timeline,
)
from core.device import MemoryWatch, is_out_of_memory, release
from core.errors import AdapterError, Cancelled, InertAdapter, PlaygroundError, RequestError
from core.evaluate import PairLogps
from core.follower import Order
from core.forecast import TYPICAL
from core.loader import BASE, ResidentModel
from core.redact import redact
from core.run_progress import Control, Reporter
from core.run_work import Work
from core.runs import Phase, Run, RunStatus
from core.settings import PINNED_MAX_NEW_TOKENS, Method
from core.token_rows import PAD_TO, TokenPair, facts, num_steps, tokenise
from core.watch import Watch, look_steps

log = logging.getLogger(__name__)

REFERENCE_FILE = "reference.safetensors"
OUT_OF_MEMORY = (
    "Memory ran out at step {}. Lower the batch size or max length, or turn gradient checkpointing on, and start again."
)
TWICE = "Each prompt is computed twice: {}."
DISCARDED = "Discarded: nothing of it is kept."
NOT_SAVED = "{}, so the run could not be saved. Put that right and resume; the last checkpoint is kept."
NEEDED = " (a checkpoint takes {:,.1f} MB)"


def execute(resident: ResidentModel, name: str, control: Control, is_resumed: bool = False) -> Run:
    """Do the run, or go on with it. Its end, good or bad, is in the run that comes back and on disk."""
    reporter = Reporter(
        replace(runs.read_run(name), status=RunStatus.RUNNING, reason="", started_at=runs.now()), control
    )
    disk.keep_room(paths.run_dir(name))
    runs.log(name, "resumed" if is_resumed else "started")
    try:
        with MemoryWatch(resident.device.kind) as memory, awake.awake(), contextlib.ExitStack() as stack:
            stack.enter_context(standstill.watched(reporter.stood_still))
            stack.callback(release, resident.device.kind)
            stack.callback(resident.close_policy)
            stack.enter_context(resident.chat_cache.closed())
            reporter.peak = lambda: memory.peak
            result = _run(resident, reporter, is_resumed)
        peak = max(reporter.run.peak_memory_bytes, memory.peak)
        reporter.run = replace(reporter.run, result={**result, "peak_memory_bytes": peak}, peak_memory_bytes=peak)
        status, reason = _ending(control)
    except Cancelled:
        status, reason = _ending(control)
        reason = reason or ("" if reporter.run.step else "Stopped before the first step.")
    except PlaygroundError as error:
        status, reason = RunStatus.FAILED, str(error)
    except Exception as error:  # the edge of a run: whatever ends it is recorded in its folder
        status, reason = RunStatus.FAILED, _sentence(error, reporter.run, name)
    if control.is_discarded and status is not RunStatus.FAILED:
        shutil.rmtree(paths.run_dir(name), ignore_errors=True)
        return replace(reporter.run, status=status, reason=DISCARDED)
    reason = redact(reason)
    try:
        disk.sweep(paths.run_dir(name))
        runs.log(name, f"{status} {reason}".strip())
        return runs.write(reporter.run, status=status, reason=reason, eta_s=None)
    except OSError as error:
        log.error("%s is %s, and that could not be written: %s", name, status, error)
        return replace(reporter.run, status=status, reason=reason, eta_s=None)


def next_of(resident: ResidentModel, run: Run) -> Run | None:
    """The run that is to follow on this one, ready to be done; where it cannot be, this one says why."""
    try:
        return run_request.following(resident, run)
    except PlaygroundError as error:
        runs.write(run, reason=f"It is finished, but the DPO run after it could not begin: {error}")
        return None


def _ending(control: Control) -> tuple[RunStatus, str]:
    if control.interruption:
        return RunStatus.INTERRUPTED, control.interruption
    return (RunStatus.STOPPED if control.is_stopping else RunStatus.FINISHED), ""


def _sentence(error: Exception, run: Run, name: str) -> str:
    runs.log(name, "".join(traceback.format_exception(error)))
    if is_out_of_memory(error):
        return OUT_OF_MEMORY.format(run.step)
    if reason := disk.reason(error):
        needed = checkpoints.size(paths.run_dir(name) / "checkpoints") if disk.is_full(error) else 0
        return NOT_SAVED.format(reason + (NEEDED.format(needed / 1e6) if needed else ""))
    return f"Training ended with an unexpected error ({type(error).__name__}). Its log.txt holds the details."


def _run(resident: ResidentModel, reporter: Reporter, is_resumed: bool) -> dict[str, Any]:
    name = reporter.run.name
    folder = paths.run_dir(name)
    reporter.phase(Phase.READING)
    work = run_work.read(resident, folder)
    train_rows, held_rows, left_out = _tokenise(resident, work, reporter)
    reporter.run = replace(reporter.run, facts={**reporter.run.facts, **facts(train_rows)})
    reporter.forecast = estimate.forecast(TYPICAL, _job(resident, work, train_rows, held_rows))
    resume_from = checkpoints.to_resume(folder / "checkpoints") if is_resumed else None
    step = checkpoints.step_of(resume_from) if resume_from else 0
    runs.cut_metrics(name, step)
    # TRL comes with it, which takes its time: not before a run needs it, and before the run's clock starts.
    import core.trainer  # noqa: F401

    reporter.trained_at = time.monotonic()
    reference = _reference(resident, work, train_rows, reporter)
    watch = _watch(resident, work, held_rows, reporter, step)
    resident.open_policy(work.settings, work.from_adapter)
    _train(resident, work, train_rows, reference, watch, reporter, resume_from)
    reporter.trained()
    if reporter.control.is_discarded:
        raise Cancelled(DISCARDED)
    reporter.phase(Phase.SAVING)
    card = model_card.card(reporter.run, work.config, runs.read_metrics(name))
    adapters.write(resident.peft, folder / "adapter", _provenance(work, name), card)
    resident.close_policy()
    try:
        resident.attach(name)
    except InertAdapter:
        # Warm-up begins at a learning rate of 0, so a stop in the first step has nothing learnt to show.
        if not reporter.control.is_stopping:
            raise
    result = {
        "pairs": len(train_rows), "num_left_out": sum(left_out.values()), "left_out": left_out,
        "train_s": round(reporter.run.train_s, 1), **_last_row(name),
    }  # fmt: skip
    reporter.run = replace(reporter.run, result=result)
    if reporter.control.is_stopping:
        return result
    return {**result, **_measure(resident, work, held_rows, reporter)}


def _tokenise(
    resident: ResidentModel, work: Work, reporter: Reporter
) -> tuple[list[TokenPair], list[TokenPair], dict[str, int]]:
    data, length = work.data, work.settings.max_length
    reporter.phase(Phase.TOKENISING, len(data.train) + len(data.held_out))
    train_rows, counts = tokenise(resident.template, data.train, length, reporter.done)
    num_train = len(data.train)
    held_rows, held_counts = tokenise(
        resident.template, data.held_out, length, lambda done: reporter.done(num_train + done)
    )
    left_out = {k: v for k, v in {**data.left_out_counts(), **dict(counts + held_counts)}.items() if v}
    return train_rows, held_rows, left_out


def _job(
    resident: ResidentModel, work: Work, train_rows: Sequence[TokenPair], held_rows: Sequence[TokenPair]
) -> estimate.Job:
    return estimate.Job(
        work.method, work.settings, train_rows, held_rows, evaluate.passage_rows(resident), len(work.pinned),
        work.is_trait_counted, bool(work.from_adapter), PAD_TO.get(resident.device.kind, 1),
        not shared_prefix.why_not(resident.model),
    )  # fmt: skip


def _reference(
    resident: ResidentModel, work: Work, rows: Sequence[TokenPair], reporter: Reporter
) -> list[tuple[float, float]]:
    """(chosen, rejected) log-probabilities under the model that DPO starts from; kept in the run's folder."""
    if work.method is not Method.DPO:
        return []
    path = paths.run_dir(reporter.run.name) / REFERENCE_FILE
    kept = reference_file.read(path, len(rows))
    if kept is not None:
        return kept
    if not evaluate.is_kept(resident, work.reference, rows):
        reporter.phase(Phase.REFERENCE, len(rows))
    logps = [(s.chosen, s.rejected) for s in evaluate.kept_logps(resident, work.reference, rows, reporter.done)]
    reference_file.write(path, logps)
    return logps


def _train(
    resident: ResidentModel,
    work: Work,
    rows: Sequence[TokenPair],
    reference: Sequence[tuple[float, float]],
    watch: Watch,
    reporter: Reporter,
    resume_from: Path | None,
) -> None:
    from core import trainer

    name = reporter.run.name
    look_at = look_steps(num_steps(len(rows), work.settings), work.settings.looks)
    if work.method is Method.DPO and (reason := shared_prefix.why_not(resident.model)):
        runs.log(name, TWICE.format(reason))

    def begin(step: int, steps: int) -> None:
        reporter.first_step = step
        reporter.phase(Phase.TRAINING, steps)
        reporter.progress(phase_done=step, step=step, steps=steps)

    def on_row(row: Mapping[str, Any]) -> None:
        runs.append_metrics(name, row)
        reporter.trained()
        reporter.progress(phase_done=row["step"], step=row["step"])

    hooks = trainer.Hooks(reporter.serve, lambda: reporter.control.is_stopping, on_row, begin, watch.look, look_at)
    folder = paths.run_dir(name) / "checkpoints"
    ranks.tell(Order(name, resident.name, reference, resume_from))
    with ranks.in_step():
        trainer.train(resident, work.method, work.settings, rows, reference, folder, hooks, resume_from, work.made_of)


def _watch(resident: ResidentModel, work: Work, held_rows: Sequence[TokenPair], reporter: Reporter, step: int) -> Watch:
    """The run's looks, after base has answered; of a run that goes on, those up to `step` are kept."""
    prompts = work.pinned if work.settings.looks else ()

    def between() -> None:
        reporter.serve()
        if reporter.control.is_stopping:
            raise Cancelled("Stopped.")

    watch = Watch(resident, reporter.run.name, held_rows, prompts, work.reference, work.settings.beta, between)
    if prompts:
        reporter.phase(Phase.PINNED, PINNED_MAX_NEW_TOKENS)
        watch.begin(step, lambda done: reporter.progress(phase_done=done))
    return watch


def _measure(resident: ResidentModel, work: Work, rows: Sequence[TokenPair], reporter: Reporter) -> dict[str, Any]:
    name = reporter.run.name
    reporter.phase(Phase.EVALUATING, 3 * len(rows) if work.from_adapter else 2 * len(rows))
    scores: dict[str, list[PairLogps]] = {}
    # What may be kept comes last: its speed says nothing of the others'.
    for contender in dict.fromkeys((name, BASE, work.from_adapter or BASE)):
        before = len(scores) * len(rows)

        def between(done: int, before: int = before) -> None:
            reporter.done(before + done)

        measure = evaluate.pair_logps if contender == name else evaluate.kept_logps
        scores[contender] = measure(resident, contender, rows, between)
    figures = evaluate.held_out_figures(
        scores[BASE], scores[name], scores[work.from_adapter or BASE], work.settings.beta
    )
    if looks := timeline.read(name).looks:
        figures["moved"] = looks[-1].moved
    figures["passage_logp_base"] = evaluate.passage_logp(resident, BASE, lambda done: reporter.serve())
    figures["passage_logp_tuned"] = evaluate.passage_logp(resident, name, lambda done: reporter.serve())
    if work.is_trait_counted and work.data.held_out:
        figures["trait"] = _count_trait(resident, work, reporter)
    return figures


def _count_trait(resident: ResidentModel, work: Work, reporter: Reporter) -> dict[str, Any]:
    reporter.phase(Phase.TRAIT, 100)

    def is_skipped() -> bool:
        reporter.serve()
        return reporter.control.is_trait_skipped or reporter.control.is_stopping

    return evaluate.count_trait(
        resident,
        reporter.run.name,
        work.data.held_out,
        lambda share: reporter.progress(phase_done=round(100 * share)),
        is_skipped,
    )


def _last_row(name: str) -> dict[str, Any]:
    """The last steps' training figures, averaged over a tenth of the run so that one batch does not decide them."""
    rows = runs.read_metrics(name)
    last = rows[-max(1, len(rows) // 10) :] if rows else []
    named = {"loss": "loss", "reward_accuracy": "rewards/accuracies", "reward_margin": "rewards/margins"}
    return {key: _mean([r[column] for r in last if column in r]) for key, column in named.items()}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _provenance(work: Work, name: str) -> dict[str, Any]:
    kept = ("model", "base_fingerprint", "data_sha256", "method", "dataset", "from_adapter", "settings", "versions")
    return {"run": name, **{key: work.config[key] for key in kept}}


def check_resumable(name: str) -> Run:
    """The run, where it can go on; RequestError with the reason where it cannot."""
    run = runs.read_run(name)
    if run.status is RunStatus.FINISHED:
        raise RequestError(f"The run '{name}' is finished, so there is nothing to resume. Start a new one from it.")
    if run.is_alive:
        raise RequestError(f"The run '{name}' is {run.status} already, since {runs.since(run)}.")
    if not (paths.run_dir(name) / "run.yaml").is_file():
        raise AdapterError(f"The run '{name}' was cut off before it began, so there is nothing to resume.")
    checkpoints.to_resume(paths.run_dir(name) / "checkpoints")
    processes = runs.read_config(paths.run_dir(name) / "run.yaml").get("processes", 1)
    if processes != ranks.count():
        raise RequestError(
            f"The run '{name}' was started with {processes} at work, and goes on with as many, not with "
            f"{ranks.count()}. Resume it with: {history.resume_command(name)}"
        )
    return run
