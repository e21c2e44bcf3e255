"""What would happen, before it does: the plan of a run in words and figures, and which bases fit this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from core import (
    base_files,
    catalogue,
    device,
    estimate,
    evaluate,
    fingerprint,
    fitting,
    paths,
    preferences,
    probe,
    run_request,
    shared_prefix,
)
from core.errors import DataError, ModelError
from core.estimate import Job, Shape
from core.forecast import Costs
from core.loader import BASE, ResidentModel
from core.preferences import PreferenceData
from core.recipes import MISTRAL
from core.redact import api_key
from core.settings import DATA, MIN_USABLE_ROWS, Method, Settings, Size, checked_pinned, parse_method, size_of
from core.sources import is_on_hub
from core.token_rows import PAD_TO, TokenPair, num_steps, tokenise
from core.wire import BaseCard, RunPlan, RunRequest

# Sizes of a base that may not be here yet, so that its fit is known before a byte is downloaded.
MISTRAL_CONFIG = {
    "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 32768,
    "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip
# A base fits where one pair of this length can be trained on it with gradient checkpointing.
SMALLEST_LENGTH = 384
MAX_KEPT = 8


@dataclass(frozen=True)
class _Rows:
    source: str
    train: list[TokenPair]
    held_out: list[TokenPair]
    left_out: dict[str, int]
    # Why DPO cannot learn from them, where it cannot.
    no_pairs: str


@dataclass(frozen=True)
class _Asked:
    """A request with what it comes to: `jobs` are its runs, one after the other. Without `rows` they are not known."""

    request: RunRequest
    base: str
    kind: str
    shape: Shape | None
    method: Method
    settings: Settings
    jobs: Sequence[Job]
    rows: _Rows | None = None
    # Pairs to train on and held out, where they can be counted without a tokenizer.
    counts: tuple[int, int] | None = None
    # Why DPO computes each prompt twice, where it does.
    twice: str = ""

    def parts(self, settings: Settings | None = None) -> dict[str, int] | None:
        """Of the run that needs most, with the batches and lengths of other settings where they are given; None where
        that leaves too few rows, or the base's shape is not known."""
        jobs = [job.under(settings) if settings else job for job in self.jobs]
        if self.shape is None or (self.rows and min(len(job.train) for job in jobs) < MIN_USABLE_ROWS):
            return None
        return max((estimate.parts(self.shape, job, self.kind) for job in jobs), key=lambda parts: sum(parts.values()))

    def needs(self, settings: Settings) -> int | None:
        parts = self.parts(settings)
        return sum(parts.values()) if parts else None


@dataclass
class Planner:
    """Keeps what is dear to find out: tokenised data, this machine's speed, and what the Hub says of a base."""

    rows: dict[tuple[Any, ...], _Rows] = field(default_factory=dict)
    costs: dict[tuple[Any, ...], Costs] = field(default_factory=dict)
    downloads: dict[str, int] = field(default_factory=dict)

    def forget(self) -> None:
        """The tokens belong to a tokenizer: another base, other tokens."""
        self.rows.clear()

    def plan(
        self,
        resident: ResidentModel,
        request: RunRequest,
        is_training: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> RunPlan:
        """What `request` would do; errors are those of starting it, but for what only a download can show.

        A base that is not here is asked for on the Hub, once, and nothing of it is fetched. While a run is training
        the machine's speed is not measured: where it is not known yet, the plan tells no time. Measuring takes seconds,
        and `between` is called on the way.
        """
        request = run_request.with_config(request)
        source = run_request.resolve_source(request)
        if request.model and catalogue.full_name(request.model) != resident.name:
            return self._elsewhere(request, source)
        method, settings = run_request.read_settings(resident, request)
        rows = None
        if not is_on_hub(source):
            rows = self._tokenised(resident, request, source, settings)
            if rows.no_pairs and (method is not Method.SFT or request.then is not None):
                raise DataError(rows.no_pairs)
        jobs = _jobs(request, size_of(resident.num_parameters), resident.device.kind, rows, resident)
        config = resident.model.config.get_text_config().to_dict()
        shape = Shape.of(config, resident.num_parameters, resident.device.dtype.itemsize)
        twice = shared_prefix.why_not(resident.model) if jobs[-1].method is Method.DPO else ""
        asked = _Asked(request, resident.name, resident.device.kind, shape, method, settings, jobs, rows, twice=twice)
        costs = self._costs(resident, is_training, between) if rows else None
        seconds = sum(estimate.forecast(costs, job).total_s for job in jobs) if costs else None
        return self._plan(asked, seconds)

    def _tokenised(self, resident: ResidentModel, request: RunRequest, source: str, settings: Settings) -> _Rows:
        key = (*run_request.data_key(source, request), settings.max_length)
        if key not in self.rows:
            if len(self.rows) >= MAX_KEPT:
                self.rows.clear()
            data = run_request.read_data(source, request)
            train, counts = tokenise(resident.template, data.train, settings.max_length)
            run_request.check_enough(train, settings)
            held, held_counts = tokenise(resident.template, data.held_out, settings.max_length)
            self.rows[key] = _Rows(
                data.source, train, held, {**data.left_out_counts(), **dict(counts + held_counts)}, _no_pairs(data)
            )
        return self.rows[key]

    def _costs(self, resident: ResidentModel, is_training: bool, between: Callable[[], None]) -> Costs | None:
        """What a pass costs with this base, device and number of threads: timed once, and never beside a run."""
        key = (resident.fingerprint, resident.device.kind, resident.device.dtype, torch.get_num_threads())
        if key not in self.costs and not is_training:
            self.costs[key] = probe.costs(resident, between)
        return self.costs.get(key)

    def _elsewhere(self, request: RunRequest, source: str) -> RunPlan:
        """A run on a base that is not the resident one: what its size and settings say."""
        method, kind = parse_method(request.method), device.best_kind()
        card = _card(request.model)
        size = size_of(card.num_parameters) if card.num_parameters else Size.LARGE
        settings = Settings.of(method, size, request.settings)
        asked = _Asked(
            request, request.model, kind, _shape_of(request.model), method, settings, _jobs(request, size, kind),
            counts=_counts(request, source),
        )  # fmt: skip
        return self._plan(asked, None, self._download_bytes(request.model))

    def _download_bytes(self, name: str) -> int:
        """Bytes to be downloaded; ModelError where the base is here and is none, or cannot be fetched."""
        if catalogue.is_local(name):
            base_files.check(catalogue.folder_of(name))
            return 0
        if name not in self.downloads:
            self.downloads[name] = catalogue.download_bytes(name, api_key("HUGGINGFACE_TOKEN"))
        return self.downloads[name]

    def cards(self) -> list[BaseCard]:
        """The starter, Mistral, and every other base in models/base."""
        folders = {catalogue.folder_of(name).name for name in catalogue.KNOWN}
        others = [name for name in catalogue.local_names() if name not in folders]
        return [_readable_card(name) for name in [*catalogue.KNOWN, *others]]

    def _plan(self, asked: _Asked, seconds: float | None, download_bytes: int = 0) -> RunPlan:
        rows, settings, limit = asked.rows, asked.settings, device.memory_limit(asked.kind)
        counts = (len(rows.train), len(rows.held_out)) if rows else asked.counts
        pairs, held_out = counts or (asked.request.limit or int(DATA["limit"].default), _held_out(asked.request))
        left_out = rows.left_out if rows else {}
        steps = sum(num_steps(pairs, job.settings) for job in asked.jobs)
        parts = asked.parts() or {}
        needed = sum(parts.values()) or None
        fit = fitting.fit(needed, limit) if needed else "unknown"
        changes, words = self._fix(asked, fit, limit)
        return RunPlan(
            asked.method, asked.base, pairs, held_out, left_out, steps, settings.batch_size * settings.accumulation,
            seconds, needed, limit, fit, download_bytes,
            _sentence(asked, pairs, held_out, sum(left_out.values()), steps), parts, changes, words,
            rows is not None, sum(row.num_cut for row in rows.train) if rows else 0, asked.twice,
        )  # fmt: skip

    def _fix(self, asked: _Asked, fit: str, limit: int) -> tuple[dict[str, Any], str]:
        """The settings that would make it fit, and what they are; where none do, which base would."""
        if fit not in ("tight", fitting.WONT_FIT):
            return {}, ""
        fix = fitting.smallest_fix(asked.settings, asked.needs, limit, is_tight=fit == "tight")
        if fix is not None:
            return fix.changes, fix.words
        if fit == "tight":
            return {}, ""
        size = asked.shape.num_parameters if asked.shape else 0
        smaller = [card for card in self.cards() if card.fit in ("fits", "tight") and card.num_parameters < size]
        largest = max(smaller, key=lambda card: card.num_parameters, default=None)
        return {}, fitting.NOTHING_FITS + (f" Choose a smaller base: {largest.label} fits." if largest else "")


def _jobs(
    request: RunRequest, size: Size, kind: str, rows: _Rows | None = None, resident: ResidentModel | None = None
) -> list[Job]:
    """The one or two runs of a request."""
    jobs: list[Job] = []
    source = rows.source if rows else request.dataset
    reference = request.from_adapter or BASE
    stages = run_request.stages(request, size)
    if request.then is not None and len(stages) == 1:
        then = {name: value for name, value in request.then.items() if name != "run"}
        stages.append(replace(request, method=Method.DPO, settings=then))
    for stage in stages:
        method = parse_method(stage.method)
        jobs.append(
            Job(
                method,
                Settings.of(method, size, stage.settings),
                rows.train if rows else (),
                rows.held_out if rows else (),
                evaluate.passage_rows(resident) if resident else (),
                len(checked_pinned(request.pinned)),
                stage.is_trait_counted and source == run_request.STARTER_DATA,
                is_following=bool(request.from_adapter or jobs),
                pad_to=PAD_TO.get(kind, 1),
                is_shared=not (resident and shared_prefix.why_not(resident.model)),
                # The second of two runs is held to an adapter that is not there yet.
                is_reference_kept=bool(
                    resident and rows and not jobs and evaluate.is_kept(resident, reference, rows.train)
                ),
            )
        )
    return jobs


def _no_pairs(data: PreferenceData) -> str:
    try:
        preferences.require_pairs(data)
    except DataError as error:
        return str(error)
    return ""


def _counts(request: RunRequest, source: str) -> tuple[int, int] | None:
    if is_on_hub(source):
        return None
    data = run_request.read_data(source, request)
    return len(data.train), len(data.held_out)


def _held_out(request: RunRequest) -> int:
    return int(DATA["held_out"].default) if request.held_out is None else request.held_out


def _shape_of(name: str) -> Shape | None:
    folder, kind = catalogue.folder_of(name), device.best_kind()
    if (folder / "config.json").is_file():
        config, parameters = paths.read_json(folder / "config.json") or {}, catalogue.num_parameters(folder)
    elif name == MISTRAL:
        config, parameters = MISTRAL_CONFIG, catalogue.KNOWN[name].num_parameters
    else:
        return None
    return Shape.of(config, parameters, device.choose(parameters, kind).dtype.itemsize)


def _base_needs(name: str) -> int | None:
    """The least that training takes on this base."""
    shape = _shape_of(name)
    if shape is None:
        return None
    least = {"gradient_checkpointing": True, "batch_size": 1, "max_length": SMALLEST_LENGTH}
    job = Job(Method.DPO, Settings.of(Method.DPO, Size.LARGE, least))
    return sum(estimate.parts(shape, job, device.best_kind()).values())


def _readable_card(name: str) -> BaseCard:
    try:
        return _card(name)
    except ModelError as error:  # one damaged base must not hide the others
        return BaseCard(name, name, 0, 0, "unknown", str(error))


def _card(name: str) -> BaseCard:
    known, folder = catalogue.KNOWN.get(name), catalogue.folder_of(name)
    is_local = (folder / "config.json").is_file()
    if is_local:
        parameters = catalogue.num_parameters(folder)
        size = sum(file.stat().st_size for file in fingerprint.weight_files(folder))
    else:
        parameters, size = (known.num_parameters, known.size_bytes) if known else (0, 0)
    needed, limit = _base_needs(name), device.memory_limit(device.best_kind())
    verdict = fitting.fit(needed, limit) if needed else "unknown"
    label = known.label if known else folder.name
    return BaseCard(name, label, size, parameters, verdict, _fit_sentence(needed, limit, size, is_local))


def _fit_sentence(needed: int | None, limit: int, size: int, is_local: bool) -> str:
    here = "Already here." if is_local else f"A download of {size / 1e9:.1f} GB." if size else "Not downloaded yet."
    if needed is None:
        return f"{here} Whether it fits is known once its size is."
    return f"{here} Training takes at least {needed / 1e9:.1f} GB of the {limit / 1e9:.1f} GB there are."


def _sentence(asked: _Asked, pairs: int, held_out: int, left_out: int, steps: int) -> str:
    is_known, settings = asked.rows is not None, asked.settings
    count = f"{pairs:,}" if is_known else f"up to {pairs:,}"
    out = f"{left_out} left out" if left_out else "none left out" if is_known else "some may be left out"
    return (
        f"{asked.method.upper()} on {count} pairs from {Path(asked.request.dataset).name}, {held_out} held out, {out}. "
        f"LoRA of rank {settings.lora_rank}, {steps} steps of {settings.batch_size * settings.accumulation} pairs."
    )
