"""An engine in a thread of the test's own process, behind the very pipe and client that the page uses.

For what needs no process of its own: it starts at once, and its verbs can be replaced.
"""

import os
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from core import client
from core.client import EngineClient
from core.engine import Engine


class EngineThread:
    """Stands in for `multiprocessing.Process`; its exit code is 0 once the engine has left its loop."""

    def __init__(self, target, args: tuple[Connection], name: str, daemon: bool) -> None:
        # The client closes its copy of the engine's end, as it must with a process.
        self.engine = Engine(Connection(os.dup(args[0].fileno())))
        self.exitcode: int | None = None
        self.pid = os.getpid()
        self.thread = threading.Thread(target=self._serve, name=name, daemon=daemon)

    def _serve(self) -> None:
        self.engine.serve_forever()
        self.exitcode = 0
        self.engine.pipe.close()

    def start(self) -> None:
        self.thread.start()

    def join(self, timeout: float | None = None) -> None:
        # The client's reader asks just after the pipe was closed.
        if self.thread is not threading.current_thread():
            self.thread.join(timeout)


class Threads:
    """Stands in for the spawn context."""

    Process = EngineThread
    Pipe = staticmethod(Pipe)


def start_client(base: str, patch: pytest.MonkeyPatch) -> EngineClient:
    """A started client; `client._process.engine` is its engine. The test's own SIGTERM stays as it is."""
    patch.setattr("core.engine.signal.signal", lambda *_: None)
    patch.setattr(client.multiprocessing, "get_context", lambda _: Threads)
    started = EngineClient(base)
    started.start()
    return started
