"""The bases that can be chosen, where each lies, how large it is, and how one gets here.

A base is the starter, a folder, or a Hub id; `folder_of` says where its files are or would be.
"""

import errno
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core import adapters, fingerprint, paths, starter
from core.errors import ModelError
from core.recipes import MISTRAL

# Everything that a safetensors base needs; the consolidated copies would double the download.
WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model"]
UNWANTED = ["consolidated*", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "original/*"]


@dataclass(frozen=True)
class Known:
    """A base whose size is known before anything is downloaded."""

    label: str
    num_parameters: int
    size_bytes: int


KNOWN = {
    paths.STARTER_NAME: Known("SmolLM2-135M-Instruct", 134_515_008, 538_060_032),
    MISTRAL: Known("Mistral-7B-Instruct-v0.3", 7_248_023_552, 14_496_047_104),
}

GATED = (
    "{0} asks you to accept its licence first. Open huggingface.co/{0}, accept it, and put a token of the same account "
    "into .env as HUGGINGFACE_TOKEN."
)
NO_TOKEN = (
    "{0} is given out only to those who are signed in. Make a token at huggingface.co/settings/tokens, put it into "
    ".env as HUGGINGFACE_TOKEN, and accept the licence at huggingface.co/{0}."
)
MISSING = "There is no model '{0}' on the Hub, or your token may not see it. Check the name."
MISSING_OR_CLOSED = (
    "There is no model '{0}' on the Hub, or it is given out only to those who are signed in. Check the name, or put a "
    "token into .env as HUGGINGFACE_TOKEN."
)
REFUSED = "The Hub refuses your token. Make a new one at huggingface.co/settings/tokens, and put it into .env."
TROUBLE = "The Hub cannot give out {0} just now (it answered {1}). Try again in a while."
DISK_FULL = "The disk is full, so {0} could not be brought. Free some space; the download goes on where it stood."
NO_SAFETENSORS = "{0} has no safetensors files, and no other kind of weights is loaded. Take another model."
OFFLINE = "{0} is not on this machine and the Hub cannot be reached. Connect to the network, or use the starter model."
NO_SUCH = "There is no model {0!r}: it is neither the starter, nor a folder, nor a Hub id such as owner/name."
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def is_hub_id(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None and ".." not in name and "--" not in name and name[-1] not in ".-"


def _home_of(name: str) -> Path:
    return paths.base_dir() / name.replace("/", "--")


def folder_of(name: str) -> Path:
    """Where the base's files are, or will be once they are fetched; ModelError where no such base can be."""
    if not name.strip():
        raise ModelError(NO_SUCH.format(name[:60]))
    known = _home_of(name)
    try:
        if name == paths.STARTER_NAME or "/" not in name and (known / "config.json").is_file():
            return known
        given = Path(name).expanduser()
        if given.is_dir():
            return given.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a home of nobody, a NUL
        raise ModelError(NO_SUCH.format(name[:60])) from error
    if is_hub_id(name):
        return known
    raise ModelError(NO_SUCH.format(name[:60]))


def full_name(name: str) -> str:
    """The name by which a base is found again from anywhere: where it is a folder, the whole path of it."""
    folder, given = folder_of(name), Path(name).expanduser().absolute()
    return os.path.normpath(given) if given.is_dir() and given.resolve() == folder else name


def is_local(name: str) -> bool:
    """Whether nothing has to be downloaded: its files are here, or it is a folder, whatever is in it."""
    folder = folder_of(name)
    return (folder / "config.json").is_file() or folder != _home_of(name)


def bring(name: str, token: str, on_progress: Callable[[str, float | None], None]) -> Path:
    """The base's folder, fetched first where it is not here; ModelError as a sentence with what to do."""
    folder = folder_of(name)
    if name == paths.STARTER_NAME:
        return starter.bring(on_progress)
    if not is_local(name):
        _fetch(name, folder, token, on_progress)
    return folder


def _fetch(name: str, folder: Path, token: str, on_progress: Callable[[str, float | None], None]) -> None:
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download

    paths.ensure_home()
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
    except (HTTPError, OSError, ValueError) as error:
        raise ModelError(explain(error, name, token)) from error
    adapters.replace_folder(part, folder)


def explain(error: Exception, name: str, token: str) -> str:
    """What a Hub error means for a user."""
    from huggingface_hub import errors as hub

    closed = GATED if token else NO_TOKEN
    if isinstance(error, hub.GatedRepoError):
        return closed.format(name)
    if isinstance(error, hub.RepositoryNotFoundError):
        return (MISSING if token else MISSING_OR_CLOSED).format(name)
    if isinstance(error, hub.HfHubHTTPError):
        code = error.response.status_code
        sentence = {401: REFUSED if token else NO_TOKEN, 403: closed, 404: MISSING}.get(code, TROUBLE)
        return sentence.format(name, code)
    if isinstance(error, hub.HFValidationError):
        return NO_SUCH.format(name)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL.format(name)
    return OFFLINE.format(name)


def download_bytes(name: str, token: str) -> int:
    """Bytes to be downloaded; 0 for what is here. The Hub is asked only about a base whose size is not known."""
    if is_local(name):
        return 0
    return KNOWN[name].size_bytes if name in KNOWN else _ask_hub(name, token)


def _ask_hub(name: str, token: str) -> int:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    try:
        info = HfApi(token=token or None).model_info(name, files_metadata=True, timeout=10)
    except (HTTPError, OSError, ValueError) as error:
        raise ModelError(explain(error, name, token)) from error
    files = [f for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    size = sum(f.size or 0 for f in files if not f.rfilename.startswith("consolidated"))
    if not size:
        raise ModelError(NO_SAFETENSORS.format(name))
    return size


def local_names() -> list[str]:
    """Names of the folders in models/base that hold a model, the starter first."""
    root = paths.base_dir()
    found = sorted(f.name for f in root.iterdir() if (f / "config.json").is_file()) if root.is_dir() else []
    here = [name for name in found if not name.startswith(".")]
    return sorted(here, key=lambda name: name != paths.STARTER_NAME)


def num_parameters(folder: Path) -> int:
    """From the headers of the weights' files alone; ModelError where one is damaged."""
    shapes = (entry[1] for file in fingerprint.weight_files(folder) for _, entry, _ in fingerprint.tensors_of(file))
    return sum(math.prod(shape) for shape in shapes)
