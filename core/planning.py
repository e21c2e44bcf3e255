"""What would happen, before it does: the plan of a run in words and figures, and which bases fit this machine."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import base_files, catalogue, device, estimate, fingerprint, paths, run_request
from core.client import BaseCard, RunPlan, RunRequest
from core.errors import ModelError
from core.loader import ResidentModel
from core.redact import api_key
from core.settings import DATA, Method, Settings, Size, parse_method, size_of
from core.sources import is_on_hub, local_files
from core.token_rows import TokenPair, tokenise
from core.trainer import num_steps

# Shapes of bases that may not be here yet, so that their fit is known before a byte is downloaded.
MISTRAL_SHAPE = {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 32768}
# A base fits where one pair of this length can be trained on it with gradient checkpointing.
SMALLEST_LENGTH = 384
MAX_KEPT = 8


@dataclass
class _Config:
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int


@dataclass(frozen=True)
class _Rows:
    train: list[TokenPair]
    held_out: list[TokenPair]
    left_out: dict[str, int]


@dataclass
class Planner:
    """Keeps what is dear to find out: tokenised data, this machine's speed, and what the Hub says of a base."""

    rows: dict[tuple[Any, ...], _Rows] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    downloads: dict[str, int] = field(default_factory=dict)

    def forget(self) -> None:
        """The tokens belong to a tokenizer: another base, other tokens."""
        self.rows.clear()

    def plan(self, resident: ResidentModel, request: RunRequest) -> RunPlan:
        """What `request` would do; errors are those of starting it, but for what only a download can show.

        A base that is not here is asked for on the Hub, once, and nothing of it is fetched.
        """
        request = run_request.with_config(request)
        if not request.dataset:
            run_request.resolve_source(request)
        if request.model and catalogue.full_name(request.model) != resident.name:
            return self._elsewhere(request)
        method, settings = run_request.read_settings(resident, request)
        if is_on_hub(run_request.resolve_source(request)):
            return self._from_hub(resident, request, method, settings)
        rows = self._tokenised(resident, request, settings)
        shape = estimate.Shape.of(
            resident.model.config.get_text_config(), resident.num_parameters, resident.device.dtype.itemsize
        )
        seconds = estimate.duration_s(
            method, settings, shape, rows.train, rows.held_out,
            request.is_trait_counted and request.dataset == run_request.STARTER_DATA, self._rate(resident),
        )  # fmt: skip
        longest = max((row.length for row in rows.train), default=settings.max_length)
        needed = _needed(
            shape, method, settings, run_request.num_trainable(resident, settings), longest, resident.device.kind
        )
        return _plan(resident.name, request, method, settings, rows, seconds, needed, resident.device.kind)

    def _tokenised(self, resident: ResidentModel, request: RunRequest, settings: Settings) -> _Rows:
        source = run_request.resolve_source(request)
        stamps = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in local_files(source))
        asked = (request.limit, request.held_out, request.split_seed, *sorted(request.columns.items()))
        key = (source, stamps, asked, settings.max_length)
        if key not in self.rows:
            if len(self.rows) >= MAX_KEPT:
                self.rows.clear()
            data = run_request.read_data(source, request)
            train, counts = tokenise(resident.template, data.train, settings.max_length)
            run_request.check_enough(train, settings)
            held, held_counts = tokenise(resident.template, data.held_out, settings.max_length)
            self.rows[key] = _Rows(train, held, {**data.left_out_counts(), **dict(counts + held_counts)})
        return self.rows[key]

    def _rate(self, resident: ResidentModel) -> float:
        kind = resident.device.kind
        if kind not in self.rates:
            self.rates[kind] = estimate.matrix_rate(kind, resident.device.dtype)
        return self.rates[kind]

    def _from_hub(self, resident: ResidentModel, request: RunRequest, method: Method, settings: Settings) -> RunPlan:
        shape = estimate.Shape.of(
            resident.model.config.get_text_config(), resident.num_parameters, resident.device.dtype.itemsize
        )
        trainable = run_request.num_trainable(resident, settings)
        needed = _needed(shape, method, settings, trainable, settings.max_length, resident.device.kind)
        return _plan(resident.name, request, method, settings, None, None, needed, resident.device.kind)

    def _elsewhere(self, request: RunRequest) -> RunPlan:
        """A run on a base that is not the resident one: what its size and settings say."""
        method = parse_method(request.method)
        card = _card(request.model)
        size = size_of(card.num_parameters) if card.num_parameters else Size.LARGE
        settings = Settings.of(method, size, request.settings)
        return _plan(
            request.model, request, method, settings, None, None, _base_needs(request.model), device.best_kind(),
            self._download_bytes(request.model),
        )  # fmt: skip

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
        known = [k.name for k in catalogue.KNOWN]
        folders = {catalogue.folder_of(name).name for name in known}
        others = [name for name in catalogue.local_names() if name not in folders]
        return [_readable_card(name) for name in [*known, *others]]


def _needed(shape: estimate.Shape, method: Method, settings: Settings, trainable: int, longest: int, kind: str) -> int:
    rows = settings.batch_size * (2 if method is Method.DPO else 1)
    return estimate.peak_bytes(shape, settings, trainable, longest, rows, kind)


def _shape_of(name: str) -> estimate.Shape | None:
    folder = catalogue.folder_of(name)
    kind = device.best_kind()
    if (folder / "config.json").is_file():
        config = paths.read_json(folder / "config.json") or {}
        config = {k: config.get(k) for k in MISTRAL_SHAPE}
        parameters = catalogue.num_parameters(folder)
    elif name == catalogue.MISTRAL:
        config, parameters = MISTRAL_SHAPE, catalogue.KNOWN[1].num_parameters
    else:
        return None
    if not all(isinstance(value, int) for value in config.values()):
        return None
    return estimate.Shape.of(_Config(**config), parameters, device.choose(parameters, kind).dtype.itemsize)


def _base_needs(name: str) -> int | None:
    shape = _shape_of(name)
    if shape is None:
        return None
    settings = Settings.of(Method.DPO, Size.LARGE, {"gradient_checkpointing": True, "batch_size": 1})
    trainable = settings.lora_rank * shape.num_layers * (8 * shape.hidden + 3 * (shape.hidden + shape.intermediate))
    return estimate.peak_bytes(shape, settings, trainable, SMALLEST_LENGTH, 2, device.best_kind())


def _readable_card(name: str) -> BaseCard:
    try:
        return _card(name)
    except ModelError as error:  # one damaged base must not hide the others
        return BaseCard(name, name, 0, 0, True, "unknown", str(error))


def _card(name: str) -> BaseCard:
    known = next((k for k in catalogue.KNOWN if k.name == name), None)
    folder = catalogue.folder_of(name)
    is_local = (folder / "config.json").is_file()
    parameters = catalogue.num_parameters(folder) if is_local else (known.num_parameters if known else 0)
    size = (
        sum(f.stat().st_size for f in fingerprint.weight_files(folder))
        if is_local
        else (known.size_bytes if known else 0)
    )
    needed, limit = _base_needs(name), device.memory_limit(device.best_kind())
    verdict = estimate.fit(needed, limit) if needed else "unknown"
    label = known.label if known else folder.name
    return BaseCard(name, label, size, parameters, is_local, verdict, _fit_sentence(needed, limit, size, is_local))


def _fit_sentence(needed: int | None, limit: int, size: int, is_local: bool) -> str:
    here = "Already here." if is_local else f"A download of {size / 1e9:.1f} GB." if size else "Not downloaded yet."
    if needed is None:
        return f"{here} Whether it fits is known once its size is."
    return f"{here} Training takes at least {needed / 1e9:.1f} GB of the {limit / 1e9:.1f} GB there are."


def _plan(
    base: str, request: RunRequest, method: Method, settings: Settings, rows: _Rows | None, seconds: float | None,
    needed: int | None, kind: str, download_bytes: int = 0,
) -> RunPlan:  # fmt: skip
    limit = device.memory_limit(kind)
    pairs = len(rows.train) if rows else request.limit or int(DATA["limit"].default)
    held = (
        len(rows.held_out)
        if rows
        else (request.held_out if request.held_out is not None else int(DATA["held_out"].default))
    )
    left = rows.left_out if rows else {}
    steps = num_steps(pairs, settings)
    batch = settings.batch_size * settings.accumulation
    return RunPlan(
        method, base, pairs, held, left, steps, batch, seconds, needed, limit,
        estimate.fit(needed, limit) if needed else "unknown", download_bytes,
        _sentence(request, method, settings, pairs, held, sum(left.values()), steps, batch, rows is not None),
    )  # fmt: skip


def _sentence(
    request: RunRequest, method: Method, settings: Settings, pairs: int, held: int, left: int, steps: int, batch: int,
    is_known: bool,
) -> str:  # fmt: skip
    count = f"{pairs:,}" if is_known else f"up to {pairs:,}"
    out = f"{left} left out" if left else "none left out" if is_known else "some may be left out"
    return (
        f"{method.upper()} on {count} pairs from {Path(request.dataset).name}, {held} held out, {out}. "
        f"LoRA of rank {settings.lora_rank}, {steps} steps of {batch} pairs."
    )
