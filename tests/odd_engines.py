"""First files of engines that misbehave. Imports little, because each is imported anew by the process it is in."""

import os


def spawned(target, base, patch):
    """A client whose engine begins with `target`."""
    from core import paths
    from core.client import EngineClient

    patch.setattr("core.engine_process.main", target)
    paths.ensure_home()
    started = EngineClient(str(base))
    started.start()
    return started


def flooding(pipe) -> None:
    """10 MB to stdout and stderr before it serves."""
    from core import engine, engine_process

    stock = engine.Engine.serve_forever

    def loud(self) -> None:
        os.write(1, b"x" * 5_000_000)
        os.write(2, b"y" * 5_000_000 + b"\n")
        print("z" * 1000)
        stock(self)

    engine.Engine.serve_forever = loud
    engine_process.main(pipe)


def broken(pipe) -> None:
    """A package is missing."""
    import core.no_such_module  # noqa: F401


def mute(pipe) -> None:
    """Gone without a word."""
    os._exit(3)


def hanging(pipe) -> None:
    """Done, and does not end."""
    import atexit
    import signal
    import time

    from core import engine_process

    atexit.register(time.sleep, 600)
    engine_process.main(pipe)
    pipe.close()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def stuck(pipe) -> None:
    """Its imports never come to an end."""
    import sys
    import threading

    from core import engine_process, settings

    class Stuck:
        def find_spec(self, name, path=None, target=None):
            if name == "core.engine":
                threading.Event().wait()

    settings.ENGINE_SILENT_S = 1.0
    sys.meta_path.insert(0, Stuck())
    engine_process.main(pipe)


def without_torch(pipe) -> None:
    """Everything is there but torch."""
    import sys

    from core import engine_process

    sys.modules["torch"] = None
    engine_process.main(pipe)
