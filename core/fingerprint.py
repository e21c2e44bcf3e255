"""What identifies a base: one hash over its weights as they lie on disk, the same on every device.

Torch-free: safetensors files are a length, a JSON header and the bytes.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from core import paths
from core.errors import ModelError

MAX_HEADER_BYTES = 100_000_000
# A header that is no header may be nested without end, or hold a size that is infinite.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that are loaded; a consolidated copy, as Mistral ships one, is not."""
    return sorted(f for f in folder.glob("*.safetensors") if not f.name.startswith("consolidated"))


def of_base(folder: Path) -> str:
    """SHA-256 over sorted tensor names, shapes, dtypes and bytes; cached by the files' sizes and times."""
    files = weight_files(folder)
    stamp = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    cache = paths.base_dir() / ".fingerprints.json"
    kept = paths.read_json(cache)
    known = kept if isinstance(kept, dict) else {}
    key = str(folder.resolve())
    entry = known.get(key)
    if isinstance(entry, dict) and entry.get("stamp") == stamp and "sha256" in entry:
        return str(entry["sha256"])
    value = hash_files(files)
    with contextlib.suppress(OSError):  # a shared base may be read-only: it is hashed again next time
        paths.write_json(cache, {**known, key: {"stamp": stamp, "sha256": value}})
    return value


def hash_files(files: list[Path]) -> str:
    """The hash over all tensors of all `files` by name, so that how they are split into files does not matter."""
    tensors = sorted((name, entry, file, start) for file in files for name, entry, start in tensors_of(file))
    digest = hashlib.sha256()
    for name, (dtype, shape, begin, end), file, start in tensors:
        digest.update(f"{name}\0{dtype}\0{list(shape)}\0".encode())
        _update(digest, file, start + begin, end - begin)
    return digest.hexdigest()


def tensors_of(file: Path) -> list[tuple[str, tuple[str, tuple[int, ...], int, int], int]]:
    """(name, (dtype, shape, begin, end), where the bytes start) of every tensor in a file; ModelError if damaged."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise ValueError
            header = json.loads(stream.read(length))
        return [(k, _entry(v), 8 + length) for k, v in header.items() if k != "__metadata__"]
    except UNREADABLE as error:
        raise ModelError(f"{file.name} is damaged: it is not a whole safetensors file. Download it again.") from error


def _entry(raw: dict[str, Any]) -> tuple[str, tuple[int, ...], int, int]:
    begin, end = raw["data_offsets"]
    return str(raw["dtype"]), tuple(int(size) for size in raw["shape"]), int(begin), int(end)


def _update(digest: Any, file: Path, start: int, size: int) -> None:
    with file.open("rb") as stream:
        stream.seek(start)
        while size > 0:
            block = stream.read(min(size, 1 << 22))
            if not block:
                raise ModelError(f"{file.name} is damaged: it ends before its last tensor. Download it again.")
            digest.update(block)
            size -= len(block)
