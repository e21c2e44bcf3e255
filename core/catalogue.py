"""The bases that can be chosen, where each lies, how large it is, and how one gets here.

A base is the starter, a folder, or a Hub id; `folder_of` says where its files are or would be.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core import adapters, paths, starter
from core.errors import ModelError

STARTER_LABEL = "SmolLM2-135M-Instruct"
MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
# Everything that a safetensors base needs; the consolidated copies would double the download.
WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model"]
UNWANTED = ["consolidated*", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "original/*"]


@dataclass(frozen=True)
class Known:
    """A base whose size is known before anything is downloaded. `bytes` is of its files, `num_layers` etc. of it."""

    name: str
    label: str
    num_parameters: int
    size_bytes: int


KNOWN = (
    Known(paths.STARTER_NAME, STARTER_LABEL, 134_515_008, 538_060_032),
    Known(MISTRAL, "Mistral-7B-Instruct-v0.3", 7_248_023_552, 14_496_047_104),
)

GATED = (
    "{0} asks you to accept its licence first. Open huggingface.co/{0}, accept it, and put a token of the same account "
    "into .env as HUGGINGFACE_TOKEN."
)
NO_TOKEN = (
    "{0} is given out only to those who are signed in. Make a token at huggingface.co/settings/tokens, put it into "
    ".env as HUGGINGFACE_TOKEN, and accept the licence at huggingface.co/{0}."
)
MISSING = "There is no model '{0}' on the Hub, or your token may not see it. Check the name."
OFFLINE = "{0} is not on this machine and the Hub cannot be reached. Connect to the network, or use the starter model."
NO_SUCH = "There is no model '{0}': it is neither the starter, nor a folder, nor a Hub id such as owner/name."


def is_hub_id(name: str) -> bool:
    owner, slash, rest = name.partition("/")
    return bool(owner and slash and rest) and "/" not in rest and not name.startswith((".", "~", "/"))


def folder_of(name: str) -> Path:
    """Where the base's files are, or will be once they are fetched; ModelError where no such base can be."""
    if not name.strip() or "\0" in name or len(name) > 300:
        raise ModelError(NO_SUCH.format(name[:60]))
    known = paths.base_dir() / (paths.STARTER_NAME if name == paths.STARTER_NAME else name.replace("/", "--"))
    if name == paths.STARTER_NAME or "/" not in name and (known / "config.json").is_file():
        return known
    given = Path(name).expanduser()
    if given.is_dir():
        return given.resolve()
    if is_hub_id(name):
        return known
    raise ModelError(NO_SUCH.format(name[:60]))


def is_local(name: str) -> bool:
    return (folder_of(name) / "config.json").is_file()


def bring(name: str, token: str, on_progress: Callable[[str, float | None], None]) -> Path:
    """The base's folder, fetched first where it is not here; ModelError as a sentence with what to do."""
    folder = folder_of(name)
    if name == paths.STARTER_NAME:
        return starter.bring(on_progress)
    if not (folder / "config.json").is_file():
        _fetch(name, folder, token, on_progress)
    return folder


def _fetch(name: str, folder: Path, token: str, on_progress: Callable[[str, float | None], None]) -> None:
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    size = download_bytes(name, token)
    free = shutil.disk_usage(paths.base_dir()).free
    if size > free:
        raise ModelError(
            f"{name} takes {size / 1e9:.1f} GB on disk, and {free / 1e9:.1f} GB are free. Make room first."
        )
    on_progress(f"Downloading {name} ({size / 1e9:.1f} GB); this is done once", None)
    # A folder of its own until it is whole, so that a download cut off is continued and never taken for a model.
    part = folder.with_name(f".{folder.name}.part")
    try:
        snapshot_download(name, local_dir=part, token=token or None, allow_patterns=WANTED, ignore_patterns=UNWANTED)
    except (hub.HfHubHTTPError, hub.LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(explain(error, name, token)) from error
    adapters.replace_folder(part, folder)


def explain(error: Exception, name: str, token: str) -> str:
    """What a Hub error means for a user."""
    from huggingface_hub import errors as hub

    if isinstance(error, hub.GatedRepoError):
        return (GATED if token else NO_TOKEN).format(name)
    if isinstance(error, hub.RepositoryNotFoundError):
        return (MISSING if token else f"{MISSING} {NO_TOKEN}").format(name)
    if (
        isinstance(error, hub.HfHubHTTPError)
        and error.response is not None
        and error.response.status_code in (401, 403)
    ):
        return (GATED if token else NO_TOKEN).format(name)
    return OFFLINE.format(name)


def download_bytes(name: str, token: str) -> int:
    """Bytes to be downloaded; 0 for what is here."""
    if is_local(name):
        return 0
    known = next((k for k in KNOWN if k.name == name), None)
    return known.size_bytes if known else _ask_hub(name, token)


def _ask_hub(name: str, token: str) -> int:
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    try:
        info = HfApi(token=token or None).model_info(name, files_metadata=True, timeout=10)
    except (hub.HfHubHTTPError, hub.LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(explain(error, name, token)) from error
    files = [f for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    return sum(f.size or 0 for f in files if not f.rfilename.startswith("consolidated"))


def local_names() -> list[str]:
    """Names of the folders in models/base that hold a model, the starter first."""
    root = paths.base_dir()
    found = sorted(f.name for f in root.iterdir() if (f / "config.json").is_file()) if root.is_dir() else []
    here = [name for name in found if not name.startswith(".")]
    return sorted(here, key=lambda name: name != paths.STARTER_NAME)


def num_parameters(folder: Path) -> int:
    """From the headers of the weights' files alone."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        shapes = [entry["shape"] for key, entry in header.items() if key != "__metadata__"]
        total += sum(_product(shape) for shape in shapes)
    return total


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
