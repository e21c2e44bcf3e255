"""From a run to the next one: the same data and settings, with the coach's changes, or on from its adapter.

Knows no component; what it gives is a request that the form can show.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from core import paths, runs
from core.client import RunRequest
from core.coach import Card
from core.errors import RequestError
from core.settings import DEFAULTS, Method, parse_method

SNAPSHOT = "data.jsonl"
NOTHING_KEPT = "The run '{}' has no run.yaml or no data.jsonl, so nothing can follow on it. Fill in the form instead."
# What the first of two runs calls its own, and what both together call it.
FIRST_OF_TWO = {"learning_rate": "sft_learning_rate", "epochs": "sft_epochs"}
# What a method sets by itself is not carried over to another method.
SET_BY_METHOD = {name for values in DEFAULTS.values() for name in values}


def request_of(run_name: str, change: Mapping[str, Any] | None = None, is_from_adapter: bool = False) -> RunRequest:
    """The run once more, on the very data that it was given, with `change`; RequestError where its files are gone.

    A change of `method` brings that method's own rates and passes, unless `change` names them too.
    """
    folder = paths.run_dir(run_name)
    if not all((folder / name).is_file() for name in ("run.yaml", SNAPSHOT)):
        raise RequestError(NOTHING_KEPT.format(run_name))
    config, changed = runs.read_config(folder / "run.yaml"), dict(change or {})
    if isinstance(config.get("then"), dict):
        config = _of_both(config)
        if "method" not in changed:
            changed = {FIRST_OF_TWO.get(name, name): value for name, value in changed.items()}
    method = parse_method(changed.pop("method", config.get("method")))
    settings = dict(config.get("settings") or {})
    if method != config.get("method"):
        settings = {name: value for name, value in settings.items() if name not in SET_BY_METHOD}
    pinned = config.get("pinned")
    return RunRequest(
        method=method,
        dataset=str(folder / SNAPSHOT),
        model=str(config.get("model") or ""),
        from_adapter=run_name if is_from_adapter else str(config.get("from_adapter") or ""),
        is_trait_counted=bool(config.get("is_trait_counted", True)),
        settings=settings | changed,
        pinned=None if pinned is None else tuple(pinned),
    )


def _of_both(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the first of two runs as that of both."""
    first = dict(config.get("settings") or {})
    own = {name: first[here] for here, name in FIRST_OF_TWO.items() if here in first}
    second = {name: value for name, value in config["then"].items() if name != "run"}
    return {**config, "method": Method.SFT_DPO.value, "settings": {**second, **own}}


def all_changes(cards: Iterable[Card]) -> dict[str, Any]:
    """What the cards would set together; where two set the same, the graver one does."""
    together: dict[str, Any] = {}
    for card in cards:
        together = {**card.change, **together}
    return together
