"""A base's folder: checked before anything in it is run, then loaded.

Knows transformers and files; what is done with the model is `loader`'s business.
"""

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from core import adapters, catalogue, fingerprint, paths
from core.device import Device, is_out_of_memory, memory_free, release
from core.errors import ModelError, OutOfMemory
from core.redact import redact

# What libraries raise over a folder that is no usable model.
UNLOADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError,
    StrictDataclassError,
)  # fmt: skip
INDEX = "model.safetensors.index.json"
# Attention that the installed libraries hold; every other name is a repository's.
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")

transformers_logging.disable_progress_bar()
# What it warns of (pad tokens, generation flags) is decided here on purpose, or said as a sentence of ours.
transformers_logging.set_verbosity_error()


def check(folder: Path) -> dict[str, Any]:
    """The model's config.json once the folder is known to be loadable without running anything of its own."""
    config = paths.read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ModelError(f"{folder} is not a model: it has no readable config.json.")
    if (folder / adapters.CONFIG).exists():
        raise ModelError(f"{folder} is an adapter, not a base model. Choose the base that it was trained on.")
    tokenizer = paths.read_json(folder / "tokenizer_config.json") or {}
    if "auto_map" in config or "auto_map" in tokenizer or _names_kernels(config):
        raise ModelError(f"{folder.name} needs code of its own to run, which is not supported. Take another model.")
    own = {file.name for file in fingerprint.weight_files(folder)}
    if not own:
        raise ModelError(f"{folder.name} has no safetensors files, and no other kind of weights is loaded.")
    if strays := sorted(_named_weights(folder, config) - own):
        raise ModelError(
            f"{folder.name} looks for weights in '{strays[0][:80]}', which is no safetensors file of its own folder. "
            "Download it again, or take another model."
        )
    return config


def _named_weights(folder: Path, config: dict[str, Any]) -> set[str]:
    """Files that the folder itself says its weights are in: transformers follows them, to pickles and other folders."""
    named = [config.get("transformers_weights") or []]
    if not (folder / "model.safetensors").is_file():
        index = paths.read_json(folder / INDEX)
        parts = index.get("weight_map") if isinstance(index, dict) else None
        named += parts.values() if isinstance(parts, dict) else []
    return {str(name) for name in named if name}


def _names_kernels(config: dict[str, Any]) -> bool:
    """Whether it asks for attention out of a repository: that beats the attention which is asked for in code."""
    nested = [value for value in config.values() if isinstance(value, dict)]
    own = (config.get("attn_implementation"), config.get("_attn_implementation"))
    return any(isinstance(name, str) and name not in ATTENTIONS for name in own) or any(map(_names_kernels, nested))


def load(folder: Path, device: Device) -> tuple[Any, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=device.dtype,
            attn_implementation=device.attention,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        model = model.to(device.kind).eval()
    except (*UNLOADABLE, MemoryError) as error:
        if is_out_of_memory(error):
            release(device.kind)
            raise OutOfMemory(_no_room(folder, device)) from error
        raise ModelError(f"{folder.name} cannot be loaded: {said_by(error)}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        raise ModelError(f"{folder.name} is incomplete: {len(missing)} weights are missing, '{missing[0]}' first.")
    model.requires_grad_(False)
    model.set_attn_implementation(device.attention)
    # What the model brings fills every gap in a request's own: repetition penalties, banned words and more.
    own = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )
    return model, tokenizer


def _no_room(folder: Path, device: Device) -> str:
    needed, free = catalogue.num_parameters(folder) * device.dtype.itemsize, memory_free(device.kind)
    return (
        f"There is not enough memory to load {folder.name}: its weights take {needed / 1e9:.2f} GB, and "
        f"{free / 1e9:.2f} GB are free. Close other programs, or choose a smaller base."
    )


def said_by(error: BaseException) -> str:
    """What a library's error says, cut to a sentence's length."""
    return " ".join(redact(str(error)).split())[:200] or type(error).__name__
