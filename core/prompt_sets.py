"""The sets of prompts that a comparison can take: the given ones, an adapter's held-out ones, and a person's own.

Also which prompts an adapter has seen in training, since a comparison on those says little. Knows nothing of who
answers them.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from core import paths, preferences, runs
from core.errors import DataError, RequestError
from core.messages import Conversation, Role, as_dicts
from core.preferences import PreferenceData, first_human_turn, folded
from core.prompts import MAX_FILE_BYTES, MAX_PROMPT_CHARACTERS, Prompt, check_prompts, read_prompts
from core.transcripts import PreferencePair

MAX_HELD_OUT = 50
MAX_PROMPTS = 500
SPEAKERS = {Role.SYSTEM: "System", Role.USER: "Human", Role.ASSISTANT: "Assistant"}
NO_DATA = "The data of '{}' is gone or has changed, so its held-out prompts are not known. Choose another prompt set."
NONE_HELD_OUT = "'{}' has no held-out prompts: its run kept no rows from training. Choose another prompt set."


class Given(StrEnum):
    QUICK = "quick"
    STANDARD = "standard"
    FULL = "full"
    HARMLESSNESS = "harmlessness"
    HELD_OUT = "held-out"


# The larger sets hold the smaller ones.
PARTS = {Given.QUICK: ("quick",), Given.STANDARD: ("quick", "standard"), Given.FULL: ("quick", "standard", "full")}


def load_set(name: str, adapter: str = "") -> list[Prompt]:
    """The prompts of a given set, of the adapter's held-out rows, or of an own set; RequestError where there are none.

    A given set's prompts come in the same order each time, those of the smaller sets first.
    """
    if name == Given.HELD_OUT:
        return _held_out(adapter)
    if name in set(Given):
        return list(_given(Given(name)))
    if name in list_own():
        return read_prompts(_file_of(name))
    raise RequestError(f"There is no prompt set {name[:60]!r}. There are: {', '.join((*Given, *list_own()))}.")


def list_own() -> list[str]:
    """Names of the saved sets, in order."""
    names = (path.stem for path in paths.prompts_dir().glob("*.json"))
    return sorted(name for name in names if paths.is_name(name) and name not in set(Given))


def save_set(name: str, prompts: Iterable[Prompt]) -> Path:
    """Keep the prompts under a name, in place of what was kept under it; RequestError where they cannot be."""
    if paths.check_name(name, "prompt set") in set(Given):
        raise RequestError(f"'{name}' is a given prompt set. Save yours under another name.")
    records = [prompt.as_record() for prompt in check_prompts(prompts)]
    if len(records) > MAX_PROMPTS:
        raise RequestError(
            f"A prompt set holds {MAX_PROMPTS} prompts at most, and these are {len(records)}. Drop some."
        )
    text = json.dumps(records, ensure_ascii=False, indent=1)
    # What could not be read again is not written.
    if len(text.encode()) > MAX_FILE_BYTES:
        raise RequestError(f"These prompts are larger than {MAX_FILE_BYTES // 2**20} MB together. Shorten them.")
    paths.ensure_home()
    paths.write_text(_file_of(name), text)
    return _file_of(name)


def digest(prompts: Iterable[Prompt]) -> str:
    """SHA-256, in hex, over what is asked, whatever the order, the ids and the categories."""
    asked = sorted(json.dumps(as_dicts(prompt.conversation)) for prompt in prompts)
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def trained_on(adapter: str, prompts: Iterable[Prompt]) -> list[str]:
    """Ids of the prompts whose first human turn the adapter, or one that it went on from, was trained on."""
    seen = _training_openings(adapter)
    return [prompt.id for prompt in prompts if folded(prompt.opening) in seen]


def in_given_sets(text: str) -> list[str]:
    """Names of the given sets that ask this."""
    return [name for name in Given if name is not Given.HELD_OUT and folded(text) in _openings(name)]


def _file_of(name: str) -> Path:
    return paths.prompts_dir() / f"{name}.json"


@cache
def _given(name: Given) -> tuple[Prompt, ...]:
    if name is Given.HARMLESSNESS:
        return tuple(read_prompts(paths.ASSETS / "harmlessness.json"))
    entries: list[dict[str, Any]] = json.loads((paths.ASSETS / "prompts.json").read_text(encoding="utf-8"))
    return tuple(Prompt.of(entry) for entry in entries if entry["set"] in PARTS[name])


@cache
def _openings(name: Given) -> frozenset[str]:
    return frozenset(folded(prompt.opening) for prompt in _given(name))


def _held_out(adapter: str) -> list[Prompt]:
    """The first prompts that the adapter's run held out, each once, without those that an ancestor was trained on."""
    if not adapter:
        raise RequestError("Choose an adapter first: the held-out prompts are those that its run kept from training.")
    try:
        pairs = _data_of(adapter).held_out
    except RequestError as error:
        raise RequestError(NO_DATA.format(adapter)) from error
    seen = _training_openings(adapter)
    found: dict[Conversation, Prompt] = {}
    for pair in pairs:
        prompt = _as_prompt(pair)
        if first_human_turn(pair) not in seen and len(prompt.prompt) <= MAX_PROMPT_CHARACTERS:
            found.setdefault(pair.prompt, prompt)
    if not found:
        raise RequestError(NONE_HELD_OUT.format(adapter))
    return check_prompts(list(found.values())[:MAX_HELD_OUT])


def _as_prompt(pair: PreferencePair) -> Prompt:
    name, category = f"held-out-{pair.row}", "held-out preference"
    if len(pair.prompt) == 1:
        return Prompt(name, category, pair.prompt[0].content)
    shown = "\n\n".join(f"{SPEAKERS[turn.role]}: {turn.content}" for turn in pair.prompt if turn.content)
    return Prompt(name, category, shown, pair.prompt)


def _data_of(adapter: str) -> PreferenceData:
    """What the adapter's run was given; RequestError where that is gone, or no longer what it was."""
    folder = paths.run_dir(adapter)
    config = runs.read_config(folder / "run.yaml")
    data = preferences.read_snapshot(folder / str(config.get("data")))
    if data.sha256 != config.get("data_sha256"):
        raise DataError(NO_DATA.format(adapter))
    return data


def _training_openings(adapter: str) -> set[str]:
    openings: set[str] = set()
    for name in _lineage(adapter):
        with contextlib.suppress(RequestError):
            openings.update(map(first_human_turn, _data_of(name).train))
    return openings


def _lineage(adapter: str) -> list[str]:
    """The adapter and those that it went on from, as far back as their runs are still here."""
    names: list[str] = []
    with contextlib.suppress(RequestError):
        while adapter and adapter not in names:
            names.append(adapter)
            adapter = str(runs.read_config(paths.run_dir(adapter) / "run.yaml").get("from_adapter") or "")
    return names
