"""What a request for a run asks, checked, and made into the run's folder.

A request may come from the page, from flags, or from the run.yaml of an earlier run.
"""

import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core import adapters, checkpoints, paths, preferences, runs
from core.client import RunRequest
from core.errors import DataError, RequestError
from core.loader import ResidentModel
from core.preferences import PreferenceData
from core.runs import Run
from core.settings import DATA, MIN_USABLE_ROWS, Method, Settings, Size, parse_method, size_of
from core.token_rows import TokenPair, tokenise

DATA_FILE = "data.jsonl"
STARTER_DATA = "starter"
# Adapter, two moments of Adam and a copy while it is written, in bytes a trained parameter.
CHECKPOINT_BYTES_A_PARAMETER = 4 * 3 * (checkpoints.KEEP + 1)
LIBRARIES = ("torch", "transformers", "trl", "peft")


def check(request: RunRequest, token: str = "") -> tuple[RunRequest, PreferenceData]:
    """What `prepare` needs; RequestError for all that can be seen to be wrong before a base is fetched and loaded."""
    request = with_config(request)
    Settings.of(parse_method(request.method), Size.LARGE, request.settings)
    if request.run and paths.run_dir(request.run).exists():
        raise RequestError(runs.TAKEN.format(request.run))
    if request.from_adapter:
        adapters.verify(adapters.find(request.from_adapter))
    return request, read_data(resolve_source(request), request, token)


def prepare(resident: ResidentModel, request: RunRequest, data: PreferenceData) -> Run:
    """Make the folder of a checked request's run; RequestError, with nothing made, where the base tells against it."""
    method, settings = read_settings(resident, request)
    check_usable(resident, data, settings)
    if request.from_adapter:
        resident.attach(request.from_adapter)
    run = runs.create(method, request.run, base=resident.name, dataset=request.dataset)
    try:
        _fill(run.name, resident, request, method, settings, data)
    except BaseException:
        shutil.rmtree(paths.run_dir(run.name), ignore_errors=True)
        raise
    return run


def _fill(
    name: str,
    resident: ResidentModel,
    request: RunRequest,
    method: Method,
    settings: Settings,
    data: PreferenceData,
) -> None:
    folder = paths.run_dir(name)
    _check_disk(folder, resident, settings)
    digest = preferences.write_snapshot(data, folder / DATA_FILE)
    runs.write_config(
        name,
        {
            "method": str(method),
            "model": resident.name,
            "base_fingerprint": resident.fingerprint,
            "dataset": request.dataset,
            "data": DATA_FILE,
            "data_sha256": digest,
            "from_adapter": request.from_adapter,
            "is_trait_counted": request.is_trait_counted and request.dataset == STARTER_DATA,
            "settings": settings.as_dict(method),
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        },
    )


def read_settings(resident: ResidentModel, request: RunRequest) -> tuple[Method, Settings]:
    method = parse_method(request.method)
    return method, Settings.of(method, size_of(resident.num_parameters), request.settings)


def resolve_source(request: RunRequest) -> str:
    if not request.dataset:
        raise DataError("Choose the data to train on: 'starter', a .jsonl file, or a Hub id such as Anthropic/hh-rlhf.")
    if request.config:
        return str(Path(request.config).parent / runs.read_config(Path(request.config)).get("data", request.dataset))
    return request.dataset


def with_config(request: RunRequest) -> RunRequest:
    """The request with what its run.yaml says wherever it says nothing itself."""
    if not request.config:
        return request
    config = runs.read_config(Path(request.config))
    known = {"method", "model", "dataset", "from_adapter", "is_trait_counted", "settings"}
    other = {"base_fingerprint", "data", "data_sha256", "versions"}
    unknown = sorted(set(config) - known - other)
    if unknown:
        raise RequestError(f"{request.config} has an unknown entry '{unknown[0]}'. Known: {', '.join(sorted(known))}.")
    merged = {k: getattr(request, k) or config.get(k, "") for k in ("method", "model", "dataset", "from_adapter")}
    settings = {**(config.get("settings") or {}), **request.settings}
    counted = request.is_trait_counted and bool(config.get("is_trait_counted", True))
    is_own_data = bool(request.dataset) and request.dataset != config.get("dataset")
    kept = replace(request, **merged, settings=settings, is_trait_counted=counted)
    return replace(kept, config="") if is_own_data or "data" not in config else kept


def read_data(source: str, request: RunRequest, token: str = "") -> PreferenceData:
    limit = int(DATA["limit"].default) if request.limit is None else request.limit
    return preferences.read(source, limit, request.held_out, token)


def _check_disk(folder: Path, resident: ResidentModel, settings: Settings) -> None:
    needed = 2 * CHECKPOINT_BYTES_A_PARAMETER * num_trainable(resident, settings)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RequestError(
            f"The run needs {needed / 1e6:,.0f} MB on disk for its checkpoints, and {free / 1e6:,.0f} MB are free. "
            "Free some space, or lower the LoRA rank."
        )


def num_trainable(resident: ResidentModel, settings: Settings) -> int:
    """Parameters of a LoRA of this rank on the chosen layers: rank times (in + out) each."""
    shapes = resident.lora_shapes(settings.target_modules)
    return settings.lora_rank * sum(rows + columns for rows, columns in shapes)


def check_usable(resident: ResidentModel, data: PreferenceData, settings: Settings) -> None:
    """DataError unless enough pairs can be trained on; no more are looked at than it takes to see that."""
    rows: list[TokenPair] = []
    for pair in data.train:
        rows += tokenise(resident.template, [pair], settings.max_length)[0]
        if len(rows) >= MIN_USABLE_ROWS:
            return
    check_enough(rows, settings)


def check_enough(rows: Sequence[TokenPair], settings: Settings) -> None:
    if len(rows) < MIN_USABLE_ROWS:
        raise DataError(
            f"{len(rows)} rows can be trained on at a max length of {settings.max_length}, and {MIN_USABLE_ROWS} are "
            "needed. Raise max length, or take other data."
        )
