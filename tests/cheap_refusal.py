"""A file read in a process of its own, which costs neither time nor memory and ends in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.paths import PROJECT_ROOT

READ = """
import resource, sys, time
import pyarrow.parquet
from core import preferences
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    preferences.read(sys.argv[1])
except preferences.DataError as error:
    print(error)
assert time.process_time() - start < 2
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
"""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="counts resident memory in Linux's unit")


def refused_cheaply(path: str | Path) -> str:
    """The sentence."""
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(path)], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
