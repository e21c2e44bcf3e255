"""Rows of a data set on the Hugging Face Hub, through `datasets` and its cache.

Knows nothing of preferences, and of local files: those are never fetched and never go through `datasets`.
"""

from collections.abc import Iterator

from core.errors import DataError
from core.file_rows import Row

TOKEN_HINT = "put a token of an account that may see it into .env as HUGGINGFACE_TOKEN"
ELSEWHERE = "take the starter data or a local file"


def read_hub(name: str, data_dir: str, most: int, token: str) -> Iterator[Row]:
    """The first `most` rows of the train split; DataError says what to do where they cannot be had."""
    # Seconds to import, and only a data set of the Hub needs them.
    import datasets
    from httpx import HTTPError

    try:
        found = datasets.load_dataset(name, data_dir=data_dir or None, split=f"train[:{most}]", token=token or None)
    except (OSError, ValueError, RuntimeError, HTTPError, datasets.exceptions.DatasetsError) as error:
        raise DataError(_sentence(error, name, data_dir)) from error
    yield from (Row(number, value) for number, value in enumerate(found, 1))


def _sentence(error: Exception, name: str, data_dir: str) -> str:
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    text = " ".join(str(error).split()) or type(error).__name__
    shown = f"{name}:{data_dir}" if data_dir else name
    # `datasets` drops the cause on its way out, so for two of these only its words are left.
    if "is a gated dataset" in text:
        page = f"https://huggingface.co/datasets/{name}"
        return f"'{shown}' is gated on the Hub. Accept its terms at {page}, and {TOKEN_HINT}."
    if isinstance(error, (DatasetNotFoundError, RepositoryNotFoundError)):
        return f"The Hub has no data set '{name}', or it is private. Check the name, or {TOKEN_HINT}."
    if isinstance(error, (ConnectionError, LocalEntryNotFoundError)) or LocalEntryNotFoundError.__name__ in text:
        return f"The Hub cannot be reached, so '{shown}' cannot be fetched. Check the network, or {ELSEWHERE}."
    if isinstance(error, (FileNotFoundError, EmptyDatasetError)):
        return f"'{shown}' holds no data files that can be read. Check its folders on the Hub, or {ELSEWHERE}."
    return f"'{shown}' cannot be read from the Hub ({text[:200]}). Try again, or {ELSEWHERE}."
