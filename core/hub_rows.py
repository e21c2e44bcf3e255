"""Rows of a data set on the Hugging Face Hub, through `datasets` and its cache.

Knows nothing of preferences, and of local files: those are never fetched and never go through `datasets`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from core.errors import DataError
from core.file_rows import Row
from core.redact import redact

TOKEN_HINT = "put a token of an account that may see it into .env as HUGGINGFACE_TOKEN"
ELSEWHERE = "take the starter data or a local file"
# What `datasets` says, having no class of its own for it, and what a user reads.
NOT_THERE = {
    r"BuilderConfig '(.*?)' not found. Available: \[(.*?)\]": "'{name}' has no configuration '{0}'. There are: {1}.",
    r"(Config name is missing).*?available configs: \[(.*?)\]": "'{name}' has several configurations: {1}. Say which, "
    "as {name}?config=NAME.",
    r"Unknown split \"(.*?)\". Should be one of \[(.*?)\]": "'{name}' has no split '{0}'. There are: {1}. Say which, "
    "as {name}?split=NAME.",
}


@dataclass(frozen=True)
class HubData:
    """A data set's id, and the folder, configuration and split of it that are meant; "" for the published default."""

    name: str
    folder: str = ""
    config: str = ""
    split: str = "train"

    def __str__(self) -> str:
        return f"{self.name}:{self.folder}" if self.folder else self.name


def read_hub(data: HubData, most: int, token: str) -> Iterator[Row]:
    """The first `most` rows of the split; DataError says what to do where they cannot be had."""
    # Seconds to import, and only a data set of the Hub needs them.
    import datasets
    from httpx import HTTPError

    split = f"{data.split}[:{most}]"
    try:
        found = datasets.load_dataset(
            data.name, data.config or None, data_dir=data.folder or None, split=split, token=token or None
        )
    except (OSError, ValueError, RuntimeError, HTTPError, datasets.exceptions.DatasetsError) as error:
        raise DataError(_sentence(error, data)) from error
    yield from (Row(number, value) for number, value in enumerate(found, 1))


def _sentence(error: Exception, data: HubData) -> str:
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    text = " ".join(redact(str(error)).split()) or type(error).__name__
    for said, sentence in NOT_THERE.items():
        if found := re.search(said, text):
            return sentence.format(*found.groups(), name=data.name)
    # `datasets` drops the cause on its way out, so for two of these only its words are left.
    if "is a gated dataset" in text:
        page = f"https://huggingface.co/datasets/{data.name}"
        return f"'{data}' is gated on the Hub. Accept its terms at {page}, and {TOKEN_HINT}."
    if isinstance(error, (DatasetNotFoundError, RepositoryNotFoundError)):
        return f"The Hub has no data set '{data.name}', or it is private. Check the name, or {TOKEN_HINT}."
    if isinstance(error, (ConnectionError, LocalEntryNotFoundError)) or LocalEntryNotFoundError.__name__ in text:
        return f"The Hub cannot be reached, so '{data}' cannot be fetched. Check the network, or {ELSEWHERE}."
    if isinstance(error, (FileNotFoundError, EmptyDatasetError)):
        return f"'{data}' holds no data files that can be read. Check its folders on the Hub, or {ELSEWHERE}."
    return f"'{data}' cannot be read from the Hub ({text[:200]}). Try again, or {ELSEWHERE}."
