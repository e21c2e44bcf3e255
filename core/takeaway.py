"""An adapter to take along: merged into its base as one model on disk, and proven to answer as the two do.

Merges tensor by tensor, file to file. Another model is loaded only for the proof, and only where there is room; the
resident one and its adapters are asked and never changed.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import psutil
import torch

from core import adapters, base_files, device, fingerprint, history, model_card, paths, starter
from core.adapters import Adapter
from core.errors import ModelError, PlaygroundError, RequestError
from core.loader import ResidentModel
from core.wire import Merged

# What belongs to a model beside its weights; where the starter came from is said of the starter alone.
BESIDE = ("*.json", "*.jinja", "*.txt", "*.model", "tokenizer*", "LICENSE*", "NOTICE*")
NOT_BESIDE = (starter.SOURCE, "consolidated.safetensors.index.json")
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NUM_PROBES, PROBE_TOKENS = 4, 64
# Of the largest logit. In half precision the merged weights are rounded, which is what base and adapter apart are not.
MAX_DIFFERENCE, MAX_HALF_DIFFERENCE = 1e-4, 5e-2
ROOM_BYTES = 100_000_000

# Called after each piece of work.
Step = Callable[[], None]

ALIKE = "Its logits are those of base and adapter but for {:.2g}, where the largest is {:.3g} (on {} texts)."
APART = (
    "The merged model does not answer as base and adapter do: its logits differ by {:.2g}, where {:.2g} is allowed. "
    "Nothing of it was kept."
)
READ_BACK = (
    "There is no room to load it beside the base, so its weights were read back instead: {} are base and adapter "
    "added up, rounded by {:.2g} at most, and the other {} are the base's own."
)
DAMAGED = "The merged model's '{}' is not what was written. Nothing of it was kept: the disk may be failing."


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies: a file's name, where its bytes begin and how many they are, and what they are."""

    file: str
    begin: int
    size: int
    dtype: str
    shape: tuple[int, ...]


def merge(resident: ResidentModel, adapter: str, on_progress: Callable[[int, int], None]) -> Merged:
    """Write base and adapter as one model under `models/merged/<adapter>/`, proven to answer alike.

    RequestError where it cannot be; PlaygroundError, with nothing kept, where the proof fails. `on_progress` may raise
    to stop.
    """
    resident.attach(adapter)
    lora, final = adapters.verify(adapters.find(adapter)), paths.merged_dir() / adapter
    places = _places(resident.folder)
    _check_places(resident.name, lora, places)
    _check_disk(resident.folder)
    has_room = _has_room(resident)
    total = len(fingerprint.weight_files(resident.folder)) + len(lora.modules) + (1 if has_room else len(places))
    numbers = count(1)

    def on_step() -> None:
        on_progress(next(numbers), total)

    aside = final.with_name(f".{adapter}.new")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _copy(resident.folder, aside, on_step)
        _add(lora, places, aside, on_step)
        prove = _compare_logits if has_room else _read_back
        difference, sentence = prove(resident, adapter, lora, places, aside, on_step)
        run, config, rows = history.record(adapter)
        card = model_card.merged_card(replace(run, base=resident.name), config, rows, sentence)
        paths.write_text(aside / "README.md", card)
        adapters.replace_folder(aside, final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Merged(str(final), difference, sentence)


# --- before -------------------------------------------------------------------------------------------


def _places(folder: Path) -> dict[str, _Place]:
    """Every tensor of a model on disk by its name."""
    return {
        name: _Place(file.name, start + begin, end - begin, dtype, shape)
        for file in fingerprint.weight_files(folder)
        for name, (dtype, shape, begin, end), start in fingerprint.tensors_of(file)
    }


def _check_places(base: str, lora: Adapter, places: dict[str, _Place]) -> None:
    """ModelError unless every weight that the adapter adds to lies on disk as it is in memory."""
    for module in sorted(lora.modules):
        place, (a, b) = places.get(f"{module}.weight"), _parts(lora, module)
        if place is None or place.dtype not in DTYPES or place.shape != (b.shape[0], a.shape[1]):
            raise ModelError(
                f"{base} keeps '{module}' in another form on disk than in memory, so an adapter cannot be merged into "
                "it. Take the adapter along as it is: plain PEFT loads it."
            )


def _check_disk(folder: Path) -> None:
    paths.ensure_home()
    needed = sum(file.stat().st_size for file in fingerprint.weight_files(folder)) + ROOM_BYTES
    free = shutil.disk_usage(paths.merged_dir()).free
    if free < needed:
        raise RequestError(
            f"The merged model takes {needed / 1e9:.1f} GB on disk, and {free / 1e9:.1f} GB are free. Make room first."
        )


def _has_room(resident: ResidentModel) -> bool:
    """Whether the merged model can be loaded beside the base."""
    kind = resident.device.kind
    free = device.memory_limit(kind) - device.memory_used(kind)
    if kind != "cuda":
        free = min(free, psutil.virtual_memory().available)
    return free > 1.2 * resident.memory_bytes


# --- writing ------------------------------------------------------------------------------------------


def _copy(folder: Path, aside: Path, on_step: Step) -> None:
    aside.mkdir(parents=True, mode=0o700)
    beside = {path for pattern in BESIDE for path in folder.glob(pattern) if path.name not in NOT_BESIDE}
    for path in sorted(path for path in beside if path.is_file()):
        shutil.copyfile(path, aside / path.name)
    for path in fingerprint.weight_files(folder):
        shutil.copyfile(path, aside / path.name)
        on_step()


def _add(lora: Adapter, places: dict[str, _Place], aside: Path, on_step: Step) -> None:
    """Put base plus adapter where the base's own weights lie in the copy."""
    for path in fingerprint.weight_files(aside):
        with path.open("rb+") as file:
            for module in sorted(lora.modules):
                place = places[f"{module}.weight"]
                if place.file == path.name:
                    file.seek(place.begin)
                    file.write(_sum(lora, module, place, aside).to(DTYPES[place.dtype]).view(torch.uint8).numpy().data)
                    on_step()
            os.fsync(file.fileno())


def _sum(lora: Adapter, module: str, place: _Place, folder: Path) -> torch.Tensor:
    """A weight of `folder` with what the adapter adds to it, alpha / rank * B A, in float32."""
    a, b = (weight.float() for weight in _parts(lora, module))
    return _tensor(_bytes(folder, place), place).float() + (lora.alpha / lora.rank) * (b @ a)


def _parts(lora: Adapter, module: str) -> list[torch.Tensor]:
    return [lora.weights[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB"]


def _bytes(folder: Path, place: _Place) -> bytearray:
    with (folder / place.file).open("rb") as file:
        file.seek(place.begin)
        return bytearray(file.read(place.size))


def _tensor(content: bytearray, place: _Place) -> torch.Tensor:
    return torch.frombuffer(content, dtype=DTYPES[place.dtype]).view(place.shape)


# --- the proof ----------------------------------------------------------------------------------------


@torch.no_grad()
def _compare_logits(
    resident: ResidentModel, adapter: str, lora: Adapter, places: dict[str, _Place], aside: Path, on_step: Step
) -> tuple[float, str]:
    """Load what was written as any program would, and hold its logits against those of base and adapter."""
    model, tokenizer = base_files.load(aside, resident.device)
    texts = json.loads((paths.ASSETS / "passages.json").read_text(encoding="utf-8"))[:NUM_PROBES]
    largest = difference = 0.0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :PROBE_TOKENS].to(resident.device.kind)
        with resident.speaking([adapter]):
            wanted = resident.model(input_ids=ids, use_cache=False).logits.float()
        found = model(input_ids=ids, use_cache=False).logits.float()
        largest = max(largest, float(wanted.abs().max()))
        difference = max(difference, float((found - wanted).abs().max()))
    del model
    device.release(resident.device.kind)
    is_full = {places[f"{module}.weight"].dtype for module in lora.modules} == {"F32"}
    is_full = is_full and resident.device.dtype == torch.float32
    allowed = (MAX_DIFFERENCE if is_full else MAX_HALF_DIFFERENCE) * largest
    if not difference <= allowed:
        raise PlaygroundError(APART.format(difference, allowed))
    on_step()
    return difference, ALIKE.format(difference, largest, len(texts))


def _read_back(
    resident: ResidentModel, adapter: str, lora: Adapter, places: dict[str, _Place], aside: Path, on_step: Step
) -> tuple[None, str]:
    """Hold every tensor that was written against what it should be, one at a time."""
    rounded, merged = 0.0, {f"{module}.weight": module for module in lora.modules}
    for name, place in places.items():
        content = _bytes(aside, place)
        if name in merged:
            wanted, found = _sum(lora, merged[name], place, resident.folder), _tensor(content, place)
            is_right = torch.equal(found, wanted.to(found.dtype))
            rounded = max(rounded, float((found.float() - wanted).abs().max()))
        else:
            is_right = content == _bytes(resident.folder, place)
        if not is_right:
            raise PlaygroundError(DAMAGED.format(name))
        on_step()
    return None, READ_BACK.format(len(merged), rounded, len(places) - len(merged))
