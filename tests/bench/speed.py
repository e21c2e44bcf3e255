"""How fast it is beside what a user would take instead: every measurement of speed, in one table.

`python -m tests.bench.speed --data FILE`; `--quick` takes some two minutes and fails only where a number is wrong: of
speed, a busy machine says nothing.
"""

import argparse
import functools
import platform
import sys
import time
from collections.abc import Callable

import psutil

from tests.bench.table import Row, as_markdown


def measurements(data: str) -> dict[str, Callable[[bool], list[Row]]]:
    # What starts processes comes before what loads a model into this one.
    from tests.bench import answering, starting, swapping, training

    return {
        "starting": starting.measure,
        "training": functools.partial(training.measure, data=data),
        "swapping": swapping.measure,
        "answering": answering.measure,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="starter", help="preference pairs for training's rows: a file, or 'starter'")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    rows: list[Row] = []
    for name, measure in measurements(asked.data).items():
        began = time.monotonic()
        rows += measure(asked.quick)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(as_markdown(rows))
    memory = psutil.virtual_memory().total / 1e9
    print(f"\n{time.strftime('%Y-%m-%d')}, {platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GB")
    sys.exit(any(row.is_good is False and (row.is_gate or not asked.quick) for row in rows))


if __name__ == "__main__":
    main()
