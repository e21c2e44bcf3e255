"""What the commands have in common: progress on stderr, and the model that a command works on, in this process."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from core import adapters, catalogue, device, paths, ranks
from core.loader import ResidentModel
from core.redact import api_key, for_terminal

SAY_EVERY_S = 2.0
Result = tuple[dict[str, Any] | None, int]


def say(text: str) -> None:
    if ranks.is_main():
        print(for_terminal(text), file=sys.stderr, flush=True)


def seldom(tell: Callable[..., None]) -> Callable[..., None]:
    """`tell`, but for calls that come less than SAY_EVERY_S after the last that was heard."""
    told_at = -math.inf

    def maybe(*args: Any) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= SAY_EVERY_S:
            told_at = time.monotonic()
            tell(*args)

    return maybe


def load(model: str) -> ResidentModel:
    """The base by name; `starter`, or nothing, is the starter."""
    paths.ensure_home()
    name = paths.STARTER_NAME if model in ("", "starter") else catalogue.full_name(model)
    last = ""

    def progress(message: str, _: float | None) -> None:
        nonlocal last
        if message != last:
            say(message)
        last = message

    folder = catalogue.bring(name, api_key("HUGGINGFACE_TOKEN"), progress)
    chosen = device.choose(catalogue.num_parameters(folder))
    say(f"{folder.name} on {chosen.kind} in {chosen.dtype_name} ({chosen.reason})")
    return ResidentModel(folder, chosen, name)


def load_for(adapter: str, model: str) -> ResidentModel:
    """The base that the adapter was trained on, unless another is named."""
    return load(model or str(adapters.read_manifest(adapters.find(adapter)).get("model", "")))
