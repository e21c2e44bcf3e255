"""The bases to choose from, as last heard from the engine.

The engine may be starting, answering or training, and a page that asks every second must not wait for
it: the list is asked for in the background, once for each state in which it can be another.
"""

import logging
import threading

from core.client import BaseCard, EngineClient, EnginePhase
from core.errors import PlaygroundError

log = logging.getLogger("playground.page")


# One that could not load a base can still say which there are.
ANSWERING = (EnginePhase.READY, EnginePhase.FAILED)


class Bases:
    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self._lock = threading.Lock()
        self._known: list[BaseCard] = []
        self._asked_for = ""
        self._asking: threading.Thread | None = None

    def known(self) -> list[BaseCard]:
        """The last list, at once; asks for a new one where the engine has another base since."""
        state = self.client.state()
        with self._lock:
            asked_for = f"{state.phase} {state.base}"
            if state.phase in ANSWERING and self._asked_for != asked_for and not self._is_asking():
                self._asked_for = asked_for
                self._asking = threading.Thread(target=self._ask, name="bases", daemon=True)
                self._asking.start()
            return list(self._known)

    def wait(self) -> None:
        """Until what was asked has been answered."""
        if self._asking is not None:
            self._asking.join()

    def _is_asking(self) -> bool:
        return self._asking is not None and self._asking.is_alive()

    def _ask(self) -> None:
        try:
            bases = self.client.list_bases()
        except PlaygroundError as error:
            log.warning("The bases could not be listed: %s", error)
            self._asked_for = ""
            return
        with self._lock:
            self._known = bases
