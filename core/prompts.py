"""What a comparison asks: prompts with an id and a category, out of a file or a list.

Knows nothing of who answers them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import RequestError

MAX_FILE_BYTES = 8 * 2**20
MAX_PROMPT_CHARACTERS = 100_000
FORM = 'a JSON list of {"id": ..., "category": ..., "prompt": ...}'


@dataclass(frozen=True)
class Prompt:
    id: str
    category: str
    prompt: str


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file; RequestError says which entry is wrong, and how."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MB; a prompts file is {FORM}.")
        entries = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}). Give the path of a prompts file.") from None
    except (ValueError, RecursionError):
        raise RequestError(f"{path} is not JSON in UTF-8; a prompts file is {FORM}.") from None
    if not isinstance(entries, list):
        raise RequestError(f"{path} does not hold a list; a prompts file is {FORM}.")
    return check_prompts(_prompt(entry, number) for number, entry in enumerate(entries, start=1))


def check_prompts(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The same prompts where a comparison can use them; RequestError where not."""
    checked = list(prompts)
    if not checked:
        raise RequestError("There is no prompt to compare on. Give at least one.")
    seen: set[str] = set()
    for prompt in checked:
        _check(prompt, seen)
        seen.add(prompt.id)
    return checked


def _prompt(entry: object, number: int) -> Prompt:
    match entry:
        case {"id": str(name), "category": str(category), "prompt": str(text)}:
            return Prompt(name, category, text)
    raise RequestError(f"Entry {number} of the prompts needs an id, a category and a prompt, each a text.")


def _check(prompt: Prompt, seen: set[str]) -> None:
    shown = repr(prompt.id[:40])
    if not prompt.id.strip():
        raise RequestError("A prompt has an empty id. Give each a name of its own.")
    if prompt.id in seen:
        raise RequestError(f"Two prompts are named {shown}. Give each an id of its own.")
    if not prompt.prompt.strip():
        raise RequestError(f"The prompt {shown} is empty. Write what is to be asked, or leave it out.")
    if len(prompt.prompt) > MAX_PROMPT_CHARACTERS:
        raise RequestError(f"The prompt {shown} is longer than {MAX_PROMPT_CHARACTERS:,} characters. Shorten it.")
    if any("\ud800" <= character <= "\udfff" for text in (prompt.id, prompt.prompt) for character in text):
        raise RequestError(f"The prompt {shown} holds half of a character (a lone surrogate). Save it as UTF-8 again.")
