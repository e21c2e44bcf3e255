"""A comparison's truth on disk: what is added to the journal, how it stands, and the log that follows from it.

Knows nothing of what is asked or judged. Safe to use from several threads; several may be open on one journal.
"""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from core.compare_log import write_log
from core.journal import Journal
from core.paths import write_text
from core.results import Results, assess
from core.standing import Standing


class Ledger:
    """`read` gives a copy of the standing; `alone` the standing itself, for as long as nobody else may add."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._standing = Standing()
        self._assessed: tuple[int, Results] | None = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[Standing]:
        """The standing with all that others have added, and nobody adding more meanwhile."""
        with self.journal.alone():
            self._standing.apply(self.journal.read_new())
            yield self._standing

    def add(self, standing: Standing, kind: str, **record: Any) -> None:
        """A record with its time, onto the disk and into the standing; wants `alone` around it."""
        self.journal.append({"kind": kind, **record, "at": datetime.now().astimezone().isoformat(timespec="seconds")})
        standing.apply(self.journal.read_new())

    def add_alone(self, kind: str, **record: Any) -> None:
        with self.alone() as standing:
            self.add(standing, kind, **record)

    def read(self) -> Standing:
        """A copy of the standing as of now, so that what is worked out from it fits together."""
        with self.journal.lock:
            self._standing.apply(self.journal.read_new())
            return self._standing.copy()

    def results(self) -> Results | None:
        """None until all is revealed."""
        with self.journal.lock:
            standing = self.read()
            if not standing.is_revealed:
                return None
            # A page asks for them again and again, and they stay what they are until something is added.
            if self._assessed is None or self._assessed[0] != self.journal.offset:
                self._assessed = (self.journal.offset, assess(standing))
            return self._assessed[1]

    def reveal_if_done(self, standing: Standing) -> None:
        if standing.is_done() and not standing.is_revealed:
            self.reveal(standing, is_early=False)

    def reveal(self, standing: Standing, is_early: bool) -> None:
        self.add(standing, "revealed", nonce=standing.nonce.hex(), is_early=is_early)

    def write_log(self) -> None:
        # The journal holds everything: a log that cannot be written now is written with the next change.
        with contextlib.suppress(OSError):
            write_text(self.journal.path.with_suffix(".log"), write_log(self.read()))
