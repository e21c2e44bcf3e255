"""Runs that are there already: a note, another name, their end, how to repeat one, and how several of them differ.

Knows nothing of torch or the page. Leaves a run that goes on alone, and everything outside models/finetuned.
"""

import contextlib
import math
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import disk, paths, runs
from core.compare import list_comparisons, read_start
from core.errors import PlaygroundError, RequestError
from core.runs import Run
from core.settings import TRAINING

CONFIG = "run.yaml"
LAUNCHED = "assets/cluster/several_gpus.yaml"
GPUS = 2
NOTE = "note.txt"
MAX_NOTE_CHARS = 2000
BLOCKS = "▁▂▃▄▅▆▇█"
MAX_BLOCKS = 10
# What a run.yaml holds besides settings, in words.
NAMES = {
    "method": "Method", "model": "Base", "base_fingerprint": "Fingerprint of the base", "dataset": "Data",
    "data_sha256": "SHA-256 of the data", "from_adapter": "Starts from",
    "from_adapter_sha256": "SHA-256 of what it starts from", "is_trait_counted": "Trait counted",
    "pinned": "Pinned prompts", "processes": "Processes",
}  # fmt: skip

GOES_ON = "The run '{}' is going on. Stop it, or wait until it is done."
IS_NEEDED = "The run '{}' is going on, and it starts from '{}'. Stop it, or wait until it is done."


# --- notes --------------------------------------------------------------------------------------------


def note(name: str, text: str) -> None:
    """Keep what somebody says of a run, in place of what was said before."""
    runs.read_run(name)
    text = text.strip()
    if len(text) > MAX_NOTE_CHARS:
        raise RequestError(f"A note may have {MAX_NOTE_CHARS:,} characters, and this one has {len(text):,}.")
    # Not in status.json: whoever trains writes that anew at every step.
    paths.write_text(paths.run_dir(name) / NOTE, text)


def read_note(name: str) -> str:
    """Empty where nothing was said."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (paths.run_dir(name) / NOTE).read_text(encoding="utf-8")
    return ""


# --- another name, an end -----------------------------------------------------------------------------


def rename(old: str, new: str) -> None:
    """Give a run that is over another name, in one piece, and tell the runs that start from it.

    The adapter's sealed manifest keeps the name under which it was trained.
    """
    needed_by = check_at_rest(old)
    folder = paths.run_dir(new)
    if folder.exists():
        raise RequestError(f"There is a run named '{new}' already. Take another name.")
    paths.run_dir(old).rename(folder)
    for name in (new, *needed_by):
        _tell(name, old, new)
    runs.log(new, f"renamed from {old}")


def _tell(name: str, old: str, new: str) -> None:
    """Put `new` where a run's own files speak of the run `old`."""
    status = paths.read_json(paths.run_dir(name) / "status.json")
    if isinstance(status, dict):
        facts = status.get("facts")
        if isinstance(facts, dict) and facts.get("follows") == old:
            status["facts"] = facts | {"follows": new}
        paths.write_json(paths.run_dir(name) / "status.json", status | {"name": name})
    config = _config(name)
    if config.get("from_adapter") == old:
        runs.write_config(name, config | {"from_adapter": new})


def delete(name: str) -> None:
    """Remove a run that is over with all that is in its folder; a link in there goes, and what it leads to stays."""
    check_at_rest(name)
    folder = paths.run_dir(name)
    # Should some of it resist, the rest is no run any more.
    aside = folder.with_name(f".{name}.gone")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    try:
        shutil.rmtree(aside)
    except OSError as error:
        why = disk.reason(error) or error.strerror or type(error).__name__
        raise PlaygroundError(f"Not all of '{name}' could be deleted ({why}). What is left is in {aside}.") from error


def check_at_rest(name: str) -> list[str]:
    """The runs that start from this one; RequestError where it, or one of them, is going on."""
    if runs.read_run(name).is_alive:
        raise RequestError(GOES_ON.format(name))
    needed_by = [run.name for run in runs.list_runs() if _config(run.name).get("from_adapter") == name]
    for other in needed_by:
        if runs.read_run(other).is_alive:
            raise RequestError(IS_NEEDED.format(other, name))
    return needed_by


def losses(name: str) -> list[str]:
    """What else would suffer if this run were deleted, a sentence each; RequestError where it must not be."""
    needed_by = check_at_rest(name)
    compared = sum(read_start(path).get("adapter") == name for path in list_comparisons())
    said = []
    if needed_by:
        said.append(
            f"Started from it: {', '.join(needed_by)}. Adapters stay, but no such run can be resumed or repeated."
        )
    if compared:
        said.append(f"Comparisons of it: {compared}. Their results stay, but none of them can go on.")
    return said


# --- how they differ, how one is repeated -------------------------------------------------------------


def differences(names: Sequence[str]) -> list[list[str]]:
    """What the runs' configurations do not agree on: its name in words, then a value a run, empty where it has none."""
    flat = [_flat(runs.read_config(paths.run_dir(name) / CONFIG)) for name in names]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [[key, *(one.get(key, "") for one in flat)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _flat(config: Mapping[str, Any], within: str = "") -> dict[str, str]:
    """Every value of a configuration as text, under its name in words."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= _flat(value, "" if key == "settings" else f"{key}: ")
        elif key != "data":  # the same file's name in every run's folder
            found[within + _words(key)] = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def _words(key: object) -> str:
    name = str(key)
    return TRAINING[name].label if name in TRAINING else NAMES.get(name, name)


def reproduce_command(name: str) -> str:
    """What, typed in the project's folder, trains the same adapter again."""
    path = paths.run_dir(name) / CONFIG
    if not path.is_file():
        raise RequestError(f"The run '{name}' was cut off before it began, so there is nothing to repeat.")
    processes = _config(name).get("processes")
    return shlex.join([*(_launcher(processes) if processes else [_program("python")]), *_repeated(path)])


def resume_command(name: str) -> str:
    """What goes on with a run, on as many processes as it began with."""
    processes = _config(name).get("processes")
    return shlex.join(
        [*(_launcher(processes) if processes else ["python"]), "playground.py", "train", "--run", name, "--resume"]
    )


def launch_command(name: str) -> str:
    """What trains a run of one process on several GPUs, with as many pairs a step; empty where they cannot be shared
    out evenly."""
    config = _config(name)
    settings = config.get("settings")
    # The settings of a run that is to follow are not shared out by flags.
    if "processes" in config or config.get("then") or not isinstance(settings, dict):
        return ""
    # The batch first: what several processes have at once is then what one has.
    for setting in ("batch_size", "accumulation"):
        size = settings.get(setting)
        if isinstance(size, int) and size % GPUS == 0:
            share = [TRAINING[setting].flag, str(size // GPUS)]
            return shlex.join([*_launcher(GPUS), *_repeated(paths.run_dir(name) / CONFIG), *share])
    return ""


def _repeated(path: Path) -> list[str]:
    shown = path.relative_to(paths.PROJECT_ROOT) if path.is_relative_to(paths.PROJECT_ROOT) else path
    return ["playground.py", "train", "--config", str(shown)]


def _launcher(processes: object) -> list[str]:
    return [_program("accelerate"), "launch", "--config_file", LAUNCHED, "--num_processes", str(processes)]


def _program(name: str) -> str:
    """As it is called from the project's folder: the one of its own .venv, where that is what runs now."""
    own = Path(sys.executable)
    if not own.is_relative_to(paths.PROJECT_ROOT):
        return name
    return str((own if name == "python" else own.with_name(name)).relative_to(paths.PROJECT_ROOT))


def record(name: str) -> tuple[Run, dict[str, Any], list[dict[str, Any]]]:
    """A run's status, configuration and metrics as they stand on disk; what is absent or damaged is empty."""
    return runs.read_run(name), _config(name), runs.read_metrics(name)


def _config(name: str) -> dict[str, Any]:
    with contextlib.suppress(RequestError):
        return runs.read_config(paths.run_dir(name) / CONFIG)
    return {}


# --- a curve in a cell --------------------------------------------------------------------------------


def sparkline(values: Sequence[float]) -> str:
    """A curve as blocks, each the mean of its share of the values; empty where there are fewer than two."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    num = min(MAX_BLOCKS, len(finite))
    cuts = [len(finite) * i // num for i in range(num + 1)]
    means = [math.fsum(finite[a:b]) / (b - a) for a, b in zip(cuts, cuts[1:], strict=False)]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((mean - low) * scale)] for mean in means)
