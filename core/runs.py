"""A run on disk: its configuration, its status and its metrics, and the list of all of them.

Written by the process that trains, read by anyone at any time; nothing here knows of torch.
A run that says it is running while its process is gone is interrupted, whatever it says.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
import yaml

from core import paths
from core.errors import RequestError
from core.settings import Method


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Phase(StrEnum):
    READING = "reading data"
    TOKENISING = "tokenising"
    REFERENCE = "reference pass"
    PINNED = "answering the pinned prompts"
    TRAINING = "training"
    SAVING = "saving"
    EVALUATING = "evaluating"
    TRAIT = "counting the trait"


ALIVE = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)
RESUMABLE = (RunStatus.STOPPED, RunStatus.INTERRUPTED, RunStatus.FAILED)
KILLED = "The process that trained it ended before it was done. Resume goes on from the last checkpoint."
DAMAGED = "Its status.json is damaged."
CLOSED = "Its folder may not be read. Give it back to your own account: sudo chown -R $USER '{}'."
# Of a run's facts and its result: what is no number, and what is several by name.
NAMED = ("follows", "then")
GROUPS = ("left_out", "margin", "per_token", "trait", "chosen_gain")
# No time, size or count of a run comes near it.
MOST = 10**24
MAX_CONFIG_BYTES = 2**20
TAKEN = "There is a run named '{}' already. Take another name, or resume it."


@dataclass(frozen=True)
class Run:
    """What `status.json` holds. Times are ISO 8601 with their offset, `eta_s` seconds.

    `train_s` and `peak_memory_bytes` are of all its parts, where it was resumed.
    """

    name: str
    method: str = ""
    status: RunStatus = RunStatus.QUEUED
    phase: str = ""
    phase_done: int = 0
    phase_total: int = 0
    step: int = 0
    steps: int = 0
    eta_s: float | None = None
    reason: str = ""
    base: str = ""
    dataset: str = ""
    created_at: str = ""
    # When it was last begun, or gone on with.
    started_at: str = ""
    updated_at: str = ""
    pid: int = 0
    pid_started: float = 0.0
    train_s: float = 0.0
    peak_memory_bytes: int = 0
    # What is known of the work once the data is tokenised: pairs, replies, cut_replies, longest, chosen_longer.
    facts: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        return self.status in ALIVE


def now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def since(run: Run) -> str:
    """When it was last begun, as one says it: the time alone where that was today."""
    begun = _moment(run.started_at or run.created_at)
    return f"{begun:%H:%M}" if begun.date() == datetime.datetime.now().date() else f"{begun:%d %b %H:%M}"


def _moment(iso: str) -> datetime.datetime:
    """In this machine's time zone, long ago where `iso` is none. As text, the hour that a clock goes through twice when
    summer ends would be out of order."""
    try:
        return datetime.datetime.fromisoformat(iso).astimezone()
    except (ValueError, OverflowError):
        return datetime.datetime.fromtimestamp(0).astimezone()


def create(method: Method, name: str = "", **known: Any) -> Run:
    """A new run's folder with its first status; RequestError where the name is taken."""
    paths.ensure_home()
    if name:
        try:
            paths.run_dir(name).mkdir(mode=0o700)
        except FileExistsError as error:
            raise RequestError(TAKEN.format(name)) from error
        return write(Run(name=name, method=method, created_at=now(), **known))
    return create(method, _free_name(method), **known)


def _free_name(method: Method) -> str:
    stem = f"{method}-{datetime.datetime.now():%m%d-%H%M}"
    taken = {folder.name for folder in paths.finetuned_dir().iterdir()}
    return next(n for n in (stem, *(f"{stem}-{i}" for i in range(2, 10_000))) if n not in taken)


def write(run: Run, **changes: Any) -> Run:
    """The run with `changes`, stamped with this process and time, on disk in one piece."""
    me = psutil.Process()
    run = replace(run, **changes, updated_at=now(), pid=me.pid, pid_started=_born_s(me))
    paths.write_json(paths.run_dir(run.name) / "status.json", asdict(run))
    return run


def read_run(name: str) -> Run:
    """The run as it stands; RequestError where there is none of that name."""
    if not paths.run_dir(name).is_dir():
        raise RequestError(f"No run named '{name}'. There are: {', '.join(_names()) or 'none yet'}.")
    return _as_listed(name)


def _as_listed(name: str) -> Run:
    folder = paths.finetuned_dir() / name
    if _is_closed(folder):
        return Run(name=name, status=RunStatus.FAILED, reason=CLOSED.format(folder))
    run = _parse(name, paths.read_json(folder / "status.json"))
    if run is None:
        return Run(name=name, status=RunStatus.FAILED, reason=DAMAGED)
    if run.is_alive and not _is_running(run.pid, run.pid_started):
        return replace(run, status=RunStatus.INTERRUPTED, reason=KILLED, eta_s=None)
    return run


def _parse(name: str, raw: Any) -> Run | None:
    """The run that `raw` describes, None where any value is of another kind than it was written as."""
    empty = asdict(Run(name))
    kept = {key: value for key, value in raw.items() if key in empty} if isinstance(raw, dict) else {}
    if not all(_is_like(value, empty[key]) for key, value in kept.items()) or kept.get("status") not in set(RunStatus):
        return None
    numbers = {key: value for key, value in kept.items() if isinstance(value, int | float)}
    figures = (numbers, kept.get("facts", {}), kept.get("result", {}))
    if not all(_is_figure(*item) for known in figures for item in known.items()):
        return None
    return Run(**kept | {"name": name, "status": RunStatus(kept["status"])})


def _is_like(value: object, example: object) -> bool:
    if example is None or isinstance(example, float):
        return isinstance(value, int | float) or value is example
    return isinstance(value, str if isinstance(example, str) else type(example))


def _is_figure(name: str, value: object) -> bool:
    """Whether it is a number that can be shown, or unknown, or what bears that name may be something else."""
    if name in NAMED or value is None:
        return True
    if name in GROUPS:
        return isinstance(value, dict) and all(_is_figure(*item) for item in value.items())
    return isinstance(value, int | float) and abs(value) <= MOST


def settle(run: Run) -> bool:
    """Whether the last word on a run that this process has ended stands on disk; where there was no room or right to
    write it, that is tried again."""
    try:
        found = read_run(run.name)
        if found.is_alive and found.pid == os.getpid():
            write(run)
    except RequestError:  # renamed or deleted since
        return True
    except OSError:
        return False
    return True


def explain_interruption(name: str, reason: str, last_words: str) -> None:
    """Say in the run's own folder why its process is gone, where that process could not any more; in its log, what was
    last heard of it too."""
    with contextlib.suppress(RequestError, OSError):
        run = read_run(name)
        if run.status is RunStatus.INTERRUPTED:
            write(run, reason=reason)
            log(name, f"{run.status} {reason} {last_words}")


def _born_s(process: psutil.Process) -> float:
    """From the computer's start to the process's: when the clock is set, both move and this stays."""
    return process.create_time() - psutil.boot_time()


def _is_running(pid: int, started: float) -> bool:
    # A pid alone may have been given to another process since.
    try:
        process = psutil.Process(pid)
        return abs(_born_s(process) - started) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False


def _names() -> list[str]:
    root = paths.finetuned_dir()
    if not root.is_dir():
        return []
    folders = (f for f in root.iterdir() if f.is_dir() and not f.is_symlink() and paths.is_name(f.name))
    return [f.name for f in sorted(folders, key=_changed_at, reverse=True) if f.name not in paths.RESERVED]


def _changed_at(folder: Path) -> float:
    try:
        return folder.stat().st_ctime
    except OSError:  # deleted since it was listed
        return 0.0


def list_runs() -> list[Run]:
    """Newest first; a folder without a status of a run's is none."""
    found = [_as_listed(name) for name in _names() if _has_status(name)]
    return sorted(found, key=lambda run: _moment(run.created_at), reverse=True)


def _has_status(name: str) -> bool:
    folder = paths.finetuned_dir() / name
    return _is_closed(folder) or (folder / "status.json").is_file()


def _is_closed(folder: Path) -> bool:
    """Whether this user may not look into a run's folder that is there: one of root's, for instance."""
    return folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)


def current_run() -> Run | None:
    return next((run for run in list_runs() if run.is_alive), None)


def adapter_dir(name: str) -> Path:
    return paths.run_dir(name) / "adapter"


def list_adapters() -> list[str]:
    """Names of the finished adapters, newest first."""
    return [name for name in _names() if has_adapter(name)]


def has_adapter(name: str) -> bool:
    folder = adapter_dir(name)
    return not _is_closed(folder.parent) and not folder.is_symlink() and (folder / "adapter_config.json").is_file()


def read_metrics(name: str) -> list[dict[str, Any]]:
    """One row a logged step, in TRL's names; a torn or damaged line is skipped."""
    return [row for row in json_lines(paths.run_dir(name) / "metrics.jsonl") if isinstance(row.get("step"), int)]


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file that may be written to this moment; a torn or damaged line is skipped."""
    if not os.access(path, os.R_OK) or not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [row for line in lines if isinstance(row := _parsed(line), dict)]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def append_metrics(name: str, row: Mapping[str, Any]) -> None:
    with (paths.run_dir(name) / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row)) + "\n")


def cut_metrics(name: str, step: int) -> None:
    """Forget the rows after `step`: a resumed run logs them anew."""
    kept = [json.dumps(row) for row in read_metrics(name) if row["step"] <= step]
    paths.write_text(paths.run_dir(name) / "metrics.jsonl", "".join(line + "\n" for line in kept))


def log(name: str, text: str) -> None:
    """One line for people in the run's log; where it cannot be written, the run goes on without."""
    with contextlib.suppress(OSError), (paths.run_dir(name) / "log.txt").open("a", encoding="utf-8") as file:
        file.write(f"{now()} {text}\n")


def write_config(name: str, config: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    paths.write_text(paths.run_dir(name) / "run.yaml", text)


def read_config(path: Path) -> dict[str, Any]:
    """A run.yaml's values; RequestError where it cannot be read."""
    try:
        config = yaml.safe_load(paths.read_text(path, MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise RequestError(f"{path} is not a readable run.yaml ({why}).") from error
    if not isinstance(config, dict):
        raise RequestError(f"{path} holds no settings: a run.yaml is a list of 'name: value' lines.")
    return config


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as their files; a no-op where folders cannot be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
