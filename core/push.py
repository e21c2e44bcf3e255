"""An adapter or a merged model on its way to the Hub, with the person's own token.

Into a repository of its own, private unless told otherwise: nothing that is there already is written over. Knows
nothing of torch.
"""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core import history, model_card, paths, runs
from core.errors import AdapterError, PlaygroundError, RequestError
from core.redact import api_key, redact

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKENS_PAGE = "huggingface.co/settings/tokens"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MESSAGE = "Pushed from the Preference Playground"
# What a repository that was made and never filled holds.
EMPTY = ({".gitattributes"}, set[str]())

NO_TOKEN = (
    f"There is no token to push with. Make one that may write at {TOKENS_PAGE}, and put it into .env as "
    "HUGGINGFACE_TOKEN."
)
NO_NAME = "{!r} is no name on the Hub. Write owner/name, where the owner is you or an organisation of yours."
NOT_MERGED = "'{0}' is not merged yet. Merge it first: python playground.py merge --adapter {0}"
DAMAGED = "The adapter '{}' is damaged: {} is not as it was written. Nothing was pushed."
OFFLINE = "The Hub cannot be reached, so '{}' was not pushed. Connect to the network and try again."
# What an answer of the Hub's means.
ANSWERS = {
    401: f"The Hub refuses your token. Make a new one that may write at {TOKENS_PAGE}, and put it into .env.",
    403: f"Your token may not write to '{{}}'. Take a name of your own, or make a token that may at {TOKENS_PAGE}.",
    409: "There is something named '{}' on the Hub already, and it is left as it is. Take another name.",
}
TROUBLE = "The Hub did not take '{}' (it answered {}). Try again in a while."


def push(adapter: str, to: str, is_merged: bool = False, is_public: bool = False) -> str:
    """Make the repository `to`, owner/name, with the adapter or its merged model in it; its URL.

    RequestError where it cannot be asked for; PlaygroundError with the reason where the Hub does not take it.
    """
    token = check(to)
    files = merged_files(adapter) if is_merged else adapter_files(adapter)
    from httpx2 import HTTPError
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi(token=token)
    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        _create(api, to, is_public)
        api.create_commit(to, added, commit_message=MESSAGE)
    except HFValidationError as error:
        raise RequestError(NO_NAME.format(to[:60])) from error
    except (HTTPError, OSError) as error:
        raise PlaygroundError(_sentence(error, to)) from error
    return f"{api.endpoint}/{to}"


def check(to: str) -> str:
    """The token to push with; RequestError where there is none, or where nothing can be called `to`."""
    if not HUB_NAME.fullmatch(to):
        raise RequestError(NO_NAME.format(to[:60]))
    token = api_key("HUGGINGFACE_TOKEN")
    if not token:
        raise RequestError(NO_TOKEN)
    return token


def adapter_files(adapter: str) -> dict[str, str | bytes]:
    """What plain PEFT needs, by name: paths and contents. The card is written anew, with what was measured since.

    The manifest stays here: it vouches for the files as they lie on this machine, and names that machine's folders.
    """
    folder = runs.adapter_dir(adapter)
    if not runs.has_adapter(adapter):
        raise AdapterError(f"No adapter named '{adapter}'. There are: {', '.join(runs.list_adapters()) or 'none yet'}.")
    _check_whole(adapter, folder)
    config = paths.read_json(folder / CONFIG)
    run, settings, rows = history.record(adapter)
    run = replace(run, base=run.base or str(config.get("base_model_name_or_path")))
    config["base_model_name_or_path"] = model_card.hub_base(run.base)
    return {
        WEIGHTS: str(folder / WEIGHTS),
        CONFIG: json.dumps(config, indent=2, sort_keys=True).encode(),
        "README.md": model_card.card(run, settings, rows).encode(),
    }


def _check_whole(adapter: str, folder: Path) -> None:
    """AdapterError unless what is pushed can be read, and is what the manifest, where there is one, vouches for."""
    manifest = paths.read_json(folder / "manifest.json")
    vouched = manifest.get("files", {}) if isinstance(manifest, dict) else {}
    for name in (WEIGHTS, CONFIG):
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        found = hashlib.sha256(content).hexdigest()
        if not content or vouched.get(name, found) != found:
            raise AdapterError(DAMAGED.format(adapter, name))
    if not isinstance(paths.read_json(folder / CONFIG), dict):
        raise AdapterError(DAMAGED.format(adapter, CONFIG))


def merged_files(adapter: str) -> dict[str, str | bytes]:
    folder = paths.merged_dir() / paths.check_name(adapter, "adapter")
    if folder.is_symlink() or not (folder / "config.json").is_file():
        raise RequestError(NOT_MERGED.format(adapter))
    return {path.name: str(path) for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()}


def _create(api: "HfApi", to: str, is_public: bool) -> None:
    """Make the repository; one that an earlier attempt made, and could not fill, is taken as made."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(to, private=not is_public)
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
        found = api.model_info(to)
        if {file.rfilename for file in found.siblings or []} not in EMPTY or found.private == is_public:
            raise


def _sentence(error: Exception, to: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError):
        return OFFLINE.format(to)
    code = error.response.status_code
    said = f"{code}: {error.server_message}" if error.server_message else str(code)
    # Before it is cut: half a key is looked for by nobody.
    return ANSWERS.get(code, TROUBLE).format(to, redact(said)[:200])
