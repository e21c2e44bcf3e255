"""The engine's first breath in its own process: environment, log and crash reports, before torch is imported.

The page's process imports this file to name `main`, so nothing heavy stands at the top.
"""

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from core import paths

MAX_LOG_BYTES = 2_000_000
LOOK_EVERY_S = 10.0

# Read by the libraries when they are imported.
ENVIRONMENT = {
    # MPS swaps instead of raising out-of-memory unless both are set.
    "PYTORCH_MPS_HIGH_WATERMARK_RATIO": "1.0",
    "PYTORCH_MPS_LOW_WATERMARK_RATIO": "0.9",
    # Loading straight to a device in another dtype than the file's can crash on MPS.
    "HF_DEACTIVATE_ASYNC_LOAD": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


def set_environment() -> None:
    """What the libraries must find when they are imported; what a user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "LOCAL_RANK" not in os.environ:
        # One process drives one card; several are driven by a launcher.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")


def main(pipe: Connection) -> None:
    """Run the engine until the page's end of the pipe closes."""
    from core import engine_end, redact, settings

    set_environment()
    paths.ensure_home()
    log = _open_log(engine_end.log_path())
    threading.Thread(target=_keep_small, args=(log, engine_end.log_path()), daemon=True, name="log").start()
    # Ctrl-C goes to every process of the terminal: the page decides, and closing the pipe tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(log)
    logging.basicConfig(stream=log, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    redact.load_env()
    redact.install()
    # Where the start hangs, the page ends it: by then the log says where.
    faulthandler.dump_traceback_later(settings.ENGINE_SILENT_S / 2, repeat=True, file=log)
    from core.engine import Engine

    engine = Engine(pipe)
    faulthandler.cancel_dump_traceback_later()
    engine.serve_forever()


def _open_log(path: Path):  # type: ignore[no-untyped-def]
    """Everything that any library prints goes to the log: the page's terminal stays readable."""
    log = path.open("a", buffering=1, encoding="utf-8", errors="replace")
    paths.keep_private(path)
    rotate(log, path)
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    return log


def _keep_small(log, path: Path) -> None:  # type: ignore[no-untyped-def]
    while True:
        time.sleep(LOOK_EVERY_S)
        with contextlib.suppress(OSError):
            rotate(log, path, sys.stdout.fileno(), sys.stderr.fileno())


def rotate(log, path: Path, *others: int) -> None:  # type: ignore[no-untyped-def]
    """Begin the log anew where it has grown too large, keeping what was last in it; `others` write to it too.

    The descriptors stay what they are, so that whoever holds one, faulthandler and C code too, writes on into the new.
    """
    if os.fstat(log.fileno()).st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
        with path.open("a") as fresh:
            paths.keep_private(path)
            for descriptor in (log.fileno(), *others):
                os.dup2(fresh.fileno(), descriptor)
