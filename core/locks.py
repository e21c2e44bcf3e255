"""What one process of a home does at a time: serve the page, and train.

A lock is the system's and goes with its process, so none is ever stale. Knows nothing of what is done inside.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from core import paths, runs
from core.errors import BusyError

SERVED = "The playground is open already, at {}. Use that page, or set PLAYGROUND_HOME to another folder."
ABOUT_TO_SERVE = "The playground is being opened already. Wait for its page, or set PLAYGROUND_HOME to another folder."
TRAINS = "The run '{}' is going on in another process since {}. Wait until it is done."
ABOUT_TO_TRAIN = "Another process is about to train. Wait until it is done."


@contextlib.contextmanager
def serving() -> Iterator[Callable[[str], object]]:
    """Inside, no other process serves this home's page; BusyError with its URL where one does. Call it with ours."""
    with _alone("app", lambda url: SERVED.format(url) if url.strip() else ABOUT_TO_SERVE) as file:
        try:
            # A full disk ends the start here, and not once an engine loads and a page has its address to write down.
            file.write_text("\n")
        except OSError as error:
            raise paths.unwritable(file, error) from error
        yield file.write_text


@contextlib.contextmanager
def training() -> Iterator[None]:
    """Inside, no other process of this home trains; BusyError where one does."""
    with _alone("training", lambda _: _who_trains()):
        yield


def _who_trains() -> str:
    run = runs.current_run()
    return TRAINS.format(run.name, runs.since(run)) if run else ABOUT_TO_TRAIN


@contextlib.contextmanager
def _alone(what: str, refusal: Callable[[str], str]) -> Iterator[Path]:
    """Yields the lock's file, whose text `refusal` makes into a sentence for whoever comes second."""
    paths.ensure_home()
    file = paths.home() / "models" / f"{what}.lock"
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(refusal(file.read_text(encoding="utf-8"))) from error
    except OSError as error:
        raise paths.unwritable(file, error) from error
    try:
        yield file
    finally:
        lock.release()
