"""A settings file: how to train, without what and on what, to be kept and shared. A run's own run.yaml is read too.

Pure but for reading the one file that it is handed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from core import paths
from core.errors import RequestError, SettingError
from core.settings import TRAINING, Method, checked_pinned, parse_method, reject_unknown
from core.wire import RunRequest

NAME = "settings.yaml"
HEAD = "# Settings of Preference Playground. Load this file on the page, under Train, Configure.\n"
MAX_BYTES = 64 * 1024
ENTRIES = ("method", "settings", "pinned", "from_adapter", "then")
# Every run.yaml says which base it was trained on; the rest of what it says is for repeating that run.
MARK_OF_A_RUN = "base_fingerprint"


def write(request: RunRequest) -> str:
    """What `read` makes the same method, settings and pinned prompts of."""
    pinned = {} if request.pinned is None else {"pinned": list(request.pinned)}
    values = {name: TRAINING[name].check(value) for name, value in request.settings.items()}
    config = {"method": str(request.method), "settings": values, **pinned}
    return HEAD + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def read(path: Path) -> RunRequest:
    """RequestError or SettingError, naming what is unknown, of the wrong kind or out of range."""
    config = _load(path)
    if MARK_OF_A_RUN in config:
        config = {name: config[name] for name in ENTRIES if name in config}
    if unknown := [name for name in config if name not in ENTRIES]:
        raise RequestError(f"{path.name} has an unknown entry {_short(unknown[0])}. Known: {', '.join(ENTRIES)}.")
    method = parse_method(config.get("method"))
    settings = checked(config.get("settings") or {})
    pinned = None if config.get("pinned") is None else checked_pinned(config["pinned"])
    adapter = config.get("from_adapter") or ""
    if not isinstance(adapter, str):
        raise RequestError(f"from_adapter must be an adapter's name, not {_short(adapter)}.")
    if method is Method.SFT and config.get("then"):
        method, settings = Method.SFT_DPO, joined(settings, checked(config["then"]))
    return RunRequest(method=method, settings=settings, pinned=pinned, from_adapter=adapter)


def joined(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of SFT, then DPO, from those of the two runs that it came to."""
    own = {"sft_learning_rate": "learning_rate", "sft_epochs": "epochs"}
    return dict(then) | {name: first[there] for name, there in own.items() if there in first}


def checked(settings: object) -> dict[str, Any]:
    """The settings in their own types."""
    if not isinstance(settings, dict):
        raise RequestError(f"'settings' must be a list of 'name: value' lines, not {_short(settings)}.")
    # What follows a run is also told its name.
    given = {str(name): value for name, value in settings.items() if name != "run"}
    reject_unknown(given, TRAINING)
    for name, value in given.items():
        # A few bytes of YAML can be a list or a number that fills the memory once it is written out.
        if not isinstance(value, str | int | float) or (isinstance(value, int) and value.bit_length() > 64):
            raise SettingError(f"{TRAINING[name].label} must be {TRAINING[name].range_text()}, not {_short(value)}.")
    return {name: TRAINING[name].check(value) for name, value in given.items()}


def _load(path: Path) -> dict[Any, Any]:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise RequestError(f"{path.name} has {size:,} bytes, and a settings file at most {MAX_BYTES:,}.")
    try:
        config = yaml.safe_load(paths.read_text(path))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise RequestError(f"{path.name} is not a readable YAML file ({_where(error)}).") from error
    if not isinstance(config, dict):
        raise RequestError(f"{path.name} holds no settings: they are 'name: value' lines under 'settings:'.")
    return config


def _where(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f"see line {mark.line + 1}" if mark else type(error).__name__


def _short(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"
