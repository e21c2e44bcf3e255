"""An adapter on disk: written in one piece, and verified before anything loads it.

Knows files, hashes and LoRA's configuration; what the adapter does to a model is `loader`'s business.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from core import paths
from core.errors import AdapterError
from core.runs import adapter_dir, fsync_folder, list_adapters

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"
MAX_RANK = 1024

# Plain LoRA and nothing else: every other feature of the format can run code, follow a path or change the base.
# What is not named here has to be off.
FREE = {"base_model_name_or_path", "inference_mode", "lora_alpha", "lora_dropout", "megatron_core", "peft_version",
        "qalora_group_size", "r", "revision", "target_modules"}  # fmt: skip
PLAIN = {"bias": ("none",), "init_lora_weights": (True, False), "peft_type": ("LORA",), "task_type": ("CAUSAL_LM",)}
OFF: tuple[object, ...] = (None, False, {}, [])
KEY = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<part>[AB])\.weight")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# What a manifest must hold, else it is damaged; the seal is a hash over everything else in it.
SEAL = "manifest_sha256"
SEALED = (SEAL, "files", "base_fingerprint")


@dataclass(frozen=True)
class Adapter:
    """A verified adapter: its weights on the CPU, and the numbers by which they take part."""

    weights: Mapping[str, torch.Tensor]
    rank: int
    alpha: float
    dropout: float
    # What its configuration calls its base: a word to compare, never a place to look at.
    base: str = ""

    @property
    def modules(self) -> set[str]:
        """Names of the base's layers that it sits on."""
        return {match["module"] for key in self.weights if (match := KEY.fullmatch(key))}


def find(name: str) -> Path:
    """The folder of a finished adapter; AdapterError where there is none."""
    folder = adapter_dir(name)
    if not (folder / CONFIG).is_file():
        raise AdapterError(f"No adapter named '{name}'. There are: {', '.join(list_adapters()) or 'none yet'}.")
    return folder


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Provenance and file hashes; empty where the adapter was made elsewhere and has none."""
    if not (folder / MANIFEST).exists():
        return {}
    manifest = read_sealed(folder / MANIFEST)
    if any(key not in manifest for key in SEALED) or not isinstance(manifest["files"], dict):
        raise AdapterError(f"The adapter '{folder.parent.name}' is damaged: {MANIFEST} is not as it was written.")
    return manifest


def write_sealed(path: Path, manifest: Mapping[str, Any]) -> None:
    paths.write_json(path, {**manifest, SEAL: seal(manifest)})


def read_sealed(path: Path) -> dict[str, Any]:
    """A manifest; empty where it is not byte for byte as it was written."""
    try:
        text = path.read_text(encoding="utf-8")
        manifest = json.loads(text)
        # 1e-05 and 1E-05 are one number and two texts.
        is_whole = (
            isinstance(manifest, dict) and manifest.get(SEAL) == seal(manifest) and paths.as_json(manifest) == text
        )
    except (OSError, ValueError, RecursionError):
        return {}
    return manifest if is_whole else {}


def seal(manifest: Mapping[str, Any]) -> str:
    """SHA-256 over a manifest without its own seal."""
    rest = {key: value for key, value in manifest.items() if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def mark_of(folder: Path) -> str:
    """What tells one version of an adapter from the next: the hash of its manifest, or of its weights."""
    manifest = read_manifest(folder)
    return str(manifest[SEAL]) if manifest else sha256(weights_file(folder))


def weights_file(folder: Path) -> Path:
    path = folder / WEIGHTS
    if not path.is_file():
        raise AdapterError(f"The adapter '{folder.parent.name}' has no {WEIGHTS}. Only safetensors files are loaded.")
    return path


def verify(folder: Path) -> Adapter:
    """The adapter once its files, hashes, configuration and numbers have been checked; AdapterError otherwise."""
    name = folder.parent.name
    _verify_hashes(name, folder)
    config = _verified_config(name, folder)
    try:
        weights = load_file(weights_file(folder))
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(f"The adapter '{name}' is damaged: {WEIGHTS} is not a whole safetensors file.") from error
    _verify_weights(name, weights, config["r"])
    base = str(config.get("base_model_name_or_path") or "")
    return Adapter(weights, config["r"], config["lora_alpha"], config.get("lora_dropout") or 0.0, base)


def _verify_hashes(name: str, folder: Path) -> None:
    for file, expected in read_manifest(folder).get("files", {}).items():
        path = folder / Path(file).name
        if not path.is_file() or sha256(path) != expected:
            raise AdapterError(f"The adapter '{name}' is damaged: {file} is not as it was written.")


def _verified_config(name: str, folder: Path) -> dict[str, Any]:
    config = paths.read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise AdapterError(f"The adapter '{name}' is damaged: {CONFIG} cannot be read.")
    for key, value in config.items():
        if key not in FREE and value not in PLAIN.get(key, OFF):
            raise AdapterError(f"The adapter '{name}' uses '{key}', and only plain LoRA is supported.")
    rank, alpha, dropout = config.get("r"), config.get("lora_alpha"), config.get("lora_dropout") or 0.0
    if not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        raise AdapterError(f"The adapter '{name}' has the rank {str(rank)[:20]}; 1 to {MAX_RANK} is supported.")
    if not isinstance(alpha, int | float) or not 0 < alpha < 1e6:
        raise AdapterError(f"The adapter '{name}' has the alpha {str(alpha)[:20]}; a positive number is needed.")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise AdapterError(f"The adapter '{name}' has the dropout {str(dropout)[:20]}; 0 to 1 is possible.")
    return config


def _verify_weights(name: str, weights: Mapping[str, torch.Tensor], rank: int) -> None:
    if not weights:
        raise AdapterError(f"The adapter '{name}' holds no weights.")
    for key, tensor in weights.items():
        match = KEY.fullmatch(key)
        if not match or tensor.ndim != 2 or tensor.dtype not in DTYPES:
            raise AdapterError(f"The adapter '{name}' holds '{key[:80]}', which is no plain LoRA weight.")
        if tensor.shape[0 if match["part"] == "A" else 1] != rank:
            raise AdapterError(f"The adapter '{name}' says that its rank is {rank}, and '{key}' has another.")
        if not torch.isfinite(tensor).all():
            raise AdapterError(f"The adapter '{name}' holds numbers that are not finite in '{key}'. Train it anew.")
    for key in weights:
        part, other = (".lora_A.", ".lora_B.") if ".lora_A." in key else (".lora_B.", ".lora_A.")
        if key.replace(part, other) not in weights:
            raise AdapterError(f"The adapter '{name}' is incomplete: '{key}' has no counterpart.")


def check_fits(name: str, weights: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, int]]) -> None:
    """AdapterError unless every weight belongs to a layer of the base: `shapes` is (out, in) by module."""
    for key, tensor in weights.items():
        match = KEY.fullmatch(key)
        assert match is not None  # `verify` has seen to it
        shape = shapes.get(match["module"])
        size = tensor.shape[1] if match["part"] == "A" else tensor.shape[0]
        if shape is None or size != shape[match["part"] == "A"]:
            raise AdapterError(
                f"The adapter '{name}' was trained on another base: it has a weight for "
                f"'{match['module']}' that this base has no place for."
            )


def write(model: Any, folder: Path, provenance: Mapping[str, Any], card: str) -> None:
    """The adapter in training (`default`) as `folder`, in one piece; an older one there is replaced."""
    aside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    save_policy(model, aside)
    (aside / "README.md").write_text(card, encoding="utf-8")
    config = json.loads((aside / CONFIG).read_text(encoding="utf-8"))
    # Where the base lies on this machine is nobody else's business.
    config["base_model_name_or_path"] = provenance["model"]
    (aside / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    with safe_open(aside / WEIGHTS, "pt") as file:
        if not file.keys():
            raise AdapterError("The adapter came out empty, so it was not saved.")
    files = {path.name: sha256(path) for path in sorted(aside.iterdir())}
    write_sealed(aside / MANIFEST, {**provenance, "files": files})
    fsync_folder(aside)
    replace_folder(aside, folder)


def save_policy(model: Any, folder: Path) -> None:
    """PEFT's own files of the adapter in training, and of no other."""
    # With "auto", the default, PEFT asks the Hub whether the base's vocabulary was changed.
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)


def replace_folder(new: Path, folder: Path) -> None:
    """Put `new` where `folder` is; a folder cannot be renamed over another that holds files."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    fsync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
