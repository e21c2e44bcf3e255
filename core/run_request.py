"""What a request for a run asks, checked, and made into the run's folder.

A request may come from the page, from flags, or from the run.yaml of an earlier run.
"""

import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import adapters, checkpoints, paths, preferences, ranks, runs
from core.errors import DataError, RequestError
from core.loader import ResidentModel
from core.preferences import PreferenceData
from core.runs import Run, RunStatus
from core.settings import (
    DATA,
    MIN_USABLE_ROWS,
    Method,
    Settings,
    Size,
    checked_pinned,
    parse_method,
    size_of,
)
from core.sources import local_files
from core.token_rows import TokenPair, tokenise
from core.wire import RunRequest

DATA_FILE = "data.jsonl"
STARTER_DATA = "starter"
# Adapter, two moments of Adam and a copy while it is written, in bytes a trained parameter.
CHECKPOINT_BYTES_A_PARAMETER = 4 * 3 * (checkpoints.KEEP + 1)
LIBRARIES = ("torch", "transformers", "trl", "peft")


def check(request: RunRequest, token: str = "") -> tuple[RunRequest, PreferenceData]:
    """What `prepare` needs; RequestError for all that can be seen to be wrong before a base is fetched and loaded."""
    request = with_config(request)
    method = parse_method(request.method)
    Settings.of(method, Size.LARGE, request.settings)
    checked_pinned(request.pinned)
    if request.then is not None:
        _check_then(request.then)
    if request.run and paths.run_dir(request.run).exists():
        raise RequestError(runs.TAKEN.format(request.run))
    if request.from_adapter:
        adapters.verify(adapters.find(request.from_adapter))
    data = read_data(resolve_source(request), request, token)
    if method is not Method.SFT or request.then is not None:
        preferences.require_pairs(data)
    # What an earlier run was given goes by the name that it had there.
    return replace(request, dataset=data.source), data


def _check_then(then: object) -> None:
    if not isinstance(then, dict):
        raise RequestError(f"'then' must hold the settings of the DPO run that follows, not {str(then)[:40]!r}.")
    Settings.of(Method.DPO, Size.LARGE, {name: value for name, value in then.items() if name != "run"})


def stages(request: RunRequest, size: Size) -> list[RunRequest]:
    """The request itself, or the two runs that SFT, then DPO comes to: the second is told what the first is called."""
    if parse_method(request.method) is not Method.SFT_DPO:
        return [request]
    settings = Settings.of(Method.SFT_DPO, size, request.settings)
    rates = {"learning_rate": settings.sft_learning_rate, "epochs": settings.sft_epochs}
    then = settings.as_dict(Method.DPO)
    first = replace(
        request,
        method=Method.SFT,
        run=f"{request.run}-sft" if request.run else "",
        settings=settings.as_dict(Method.SFT) | rates,
        then=then | ({"run": request.run} if request.run else {}),
        is_trait_counted=False,
    )
    return [first, replace(request, method=Method.DPO, settings=then)]


def following(resident: ResidentModel, run: Run) -> Run | None:
    """The DPO run that is to follow on a finished SFT run's adapter and data, ready to be done; None where none is."""
    folder = paths.run_dir(run.name)
    if run.status is not RunStatus.FINISHED or not run.facts.get("then"):
        return None
    config = runs.read_config(folder / "run.yaml")
    settings = dict(config["then"])
    request = RunRequest(
        method=Method.DPO,
        dataset=config["dataset"],
        run=settings.pop("run", ""),
        from_adapter=run.name,
        settings=settings,
        pinned=tuple(config["pinned"]),
    )
    return prepare(resident, request, preferences.read_snapshot(folder / DATA_FILE), follows=run.name)


def prepare(resident: ResidentModel, request: RunRequest, data: PreferenceData, follows: str = "") -> Run:
    """Make the folder of a checked request's run, of its first one where it is two; RequestError, with nothing made,
    where the base tells against it. `follows` names the run that this one goes on from."""
    request = stages(request, size_of(resident.num_parameters))[0]
    method, settings = read_settings(resident, request)
    check_usable(resident, data, settings)
    if request.from_adapter:
        resident.attach(request.from_adapter)
    facts: dict[str, Any] = {"then": True} if request.then is not None else {"follows": follows} if follows else {}
    facts["pinned"] = len(checked_pinned(request.pinned)) if settings.looks else 0
    run = runs.create(method, request.run, base=resident.name, dataset=request.dataset, facts=facts)
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
            **({"from_adapter_sha256": resident.mark(request.from_adapter)} if request.from_adapter else {}),
            "is_trait_counted": request.is_trait_counted and request.dataset == STARTER_DATA,
            "settings": settings.as_dict(method),
            # What an optimiser step sees depends on it.
            **({"processes": ranks.count()} if ranks.count() > 1 else {}),
            "pinned": list(checked_pinned(request.pinned)),
            **({"then": request.then} if request.then is not None else {}),
            "versions": versions(),
        },
    )


def versions() -> dict[str, str]:
    """Of the libraries that a run's numbers depend on, as they are installed now."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


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
    known = {"method", "model", "dataset", "from_adapter", "is_trait_counted", "settings", "pinned", "then"}
    other = {"base_fingerprint", "data", "data_sha256", "from_adapter_sha256", "processes", "versions"}
    unknown = sorted(set(config) - known - other)
    if unknown:
        raise RequestError(f"{request.config} has an unknown entry '{unknown[0]}'. Known: {', '.join(sorted(known))}.")
    merged = {k: getattr(request, k) or config.get(k, "") for k in ("method", "model", "dataset", "from_adapter")}
    settings = {**(config.get("settings") or {}), **request.settings}
    counted = request.is_trait_counted and bool(config.get("is_trait_counted", True))
    pinned = config.get("pinned") if request.pinned is None else request.pinned
    then = config.get("then") if request.then is None else request.then
    is_own_data = bool(request.dataset) and request.dataset != config.get("dataset")
    kept = replace(request, **merged, settings=settings, is_trait_counted=counted, pinned=pinned, then=then)
    return replace(kept, config="") if is_own_data or "data" not in config else kept


def read_data(source: str, request: RunRequest, token: str = "") -> PreferenceData:
    limit = int(DATA["limit"].default) if request.limit is None else request.limit
    return preferences.read(source, limit, request.held_out, token, request.columns, request.split_seed)


def data_key(source: str, request: RunRequest) -> tuple[Any, ...]:
    """What the data depends on: the local files as they are now, and what is asked of them."""
    stamps = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in local_files(source))
    return source, stamps, request.limit, request.held_out, request.split_seed, *sorted(request.columns.items())


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
