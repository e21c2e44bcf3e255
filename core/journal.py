"""An append-only file of JSON objects, one a line, that outlives a kill at any byte.

Knows nothing of what the records mean. Several threads and processes may share one file.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock

from core.errors import PlaygroundError


class Journal:
    """`read_new` gives what has been added since the last read, by whomever; `append` wants `alone` around it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Up to where it has been read.
        self.offset = 0
        self.lock = threading.RLock()
        self._file: FileIO | None = None

    @classmethod
    def create(cls, folder: Path, stem: str) -> "Journal":
        """A new empty file, for its owner alone; a number is added where the name is taken."""
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = folder / (f"{stem}.jsonl" if number == 1 else f"{stem}_{number}.jsonl")
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                return cls(path)
            number += 1

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else appends meanwhile, so that what is checked inside still holds when it is written."""
        with self.lock, contextlib.ExitStack() as stack:
            try:
                # One lock for all journals of the folder, so that none lies beside each.
                stack.enter_context(FileLock(self.path.with_name("journals.lock"), mode=0o600))
                self._file = stack.enter_context(FileIO(self.path, "r+"))
            except OSError as error:
                raise PlaygroundError(f"{self.path} cannot be opened ({error.strerror}). Was it moved?") from None
            try:
                yield
            finally:
                self._file = None

    def append(self, record: dict[str, Any]) -> None:
        """Add a record and see it onto the disk. A write that fails leaves nothing of it behind."""
        assert self._file is not None, "append wants alone() around it"
        file, data = self._file, json.dumps(record, allow_nan=False).encode() + b"\n"
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        if file.read(1) not in (b"", b"\n"):
            data = b"\n" + data  # the line before was torn off by a kill
        try:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise PlaygroundError(
                f"{self.path} could not be written ({error.strerror}). Make room and try again; what was there is kept."
            ) from None

    def read_new(self) -> list[dict[str, Any]]:
        """The whole lines since the last read; a torn or damaged one is skipped."""
        with self.lock:
            try:
                with self.path.open("rb") as file:
                    file.seek(self.offset)
                    data = file.read()
            except OSError as error:
                raise PlaygroundError(f"{self.path} cannot be read ({error.strerror}). Was it moved?") from None
            whole, newline, _ = data.rpartition(b"\n")
            self.offset += len(whole) + len(newline)
            return [record for record in map(_parse, whole.split(b"\n")) if record]


def _parse(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(line)
        if isinstance(value, dict):
            return value
    return {}
