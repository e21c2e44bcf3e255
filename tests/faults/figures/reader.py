"""A process that reads data files as the page and `train --dataset` do, and says of each what went wrong with it."""

import json
import multiprocessing
import tempfile
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from core import preferences
from core.columns import UnmappedColumns
from core.errors import PlaygroundError

# Seconds of processor for a whole read; and after how many on the wall nobody waits any longer.
SLOW_S, DEAD_S = 2.0, 60.0
SPAWNING = multiprocessing.get_context("spawn")


class Reader:
    """Called with a path it gives a sentence, empty where all is well. One that a file kills is replaced."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.pipe, theirs = SPAWNING.Pipe()
        self.process = SPAWNING.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def __call__(self, path: Path) -> str:
        try:
            self.pipe.send(path)
            if self.pipe.poll(DEAD_S):
                return self.pipe.recv()
            wrong = f"no answer within {DEAD_S:.0f} s"
        except (EOFError, OSError):
            self.process.join(DEAD_S)
            wrong = f"the process died ({self.process.exitcode})"
        self.close()
        self._start()
        return wrong

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def serve(pipe: Connection) -> None:
    kept = Path(tempfile.mkdtemp()) / "snapshot.jsonl"
    while True:
        try:
            path = pipe.recv()
        except EOFError:
            return
        began = time.process_time()
        wrong = wrong_with(path, kept)
        took_s = time.process_time() - began
        pipe.send(wrong or (f"it took {took_s:.1f} s" if took_s > SLOW_S else ""))


def wrong_with(path: Path, kept: Path) -> str:
    """A file is either refused in one sentence, or read, kept and shown without a mishap."""
    try:
        data = preferences.read(str(path))
        preferences.write_snapshot(data, kept)
        if preferences.read_snapshot(kept) != data:
            return "its snapshot holds other data"
        shown = [data.found, *(left.detail for left in data.left_out)]
    except UnmappedColumns as error:
        shown = [str(error), *error.columns]
    except PlaygroundError as error:
        shown = [str(error)]
    except BaseException:
        return traceback.format_exc(limit=-1).strip().replace("\n", " ")
    return "" if is_shown(shown) else f"this cannot be shown: {json.dumps(shown)[:300]}"


def is_shown(texts: list[str]) -> bool:
    """Whether each is one line of writable text."""
    try:
        return all(len(text.encode().splitlines()) <= 1 for text in texts)
    except UnicodeEncodeError:
        return False
