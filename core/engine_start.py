"""Whether an engine that starts is still at work, or hangs: told by the processor that it uses.

A cold disk may take minutes to bring torch, but whoever reads it uses the processor; a lock that never opens or a
network disk that is gone does not.
"""

from typing import Any

import psutil

from core import settings

LOOK_S = 0.5
WHERE = "models/logs/engine.log says where"
HANGS = "it hung at its start, with nothing done for {:.0f} s; " + WHERE
IS_LATE = "it was not ready {:.0f} s after its start; " + WHERE


def hang(pipe: Any, process: Any) -> str:
    """Wait for the engine's first word, or its end, and give ""; where neither comes, what is to be said of it."""
    idle_s = waited_s = 0.0
    before_s = _worked_s(process)
    while not pipe.poll(LOOK_S):
        # Counted in looks and not by a clock: while this process stood still itself, the engine did so too.
        idle_s, waited_s = idle_s + LOOK_S, waited_s + LOOK_S
        if (now_s := _worked_s(process)) - before_s >= settings.ENGINE_SIGN_OF_LIFE_S:
            idle_s, before_s = 0.0, now_s
        if idle_s >= settings.ENGINE_SILENT_S:
            return HANGS.format(idle_s)
        if waited_s >= settings.ENGINE_START_S:
            return IS_LATE.format(waited_s)
    return ""


def _worked_s(process: Any) -> float:
    """Seconds of processor that it has used."""
    try:
        used = psutil.Process(process.pid).cpu_times()
    except psutil.Error:  # gone, which the pipe will tell
        return 0.0
    return float(used.user + used.system)
