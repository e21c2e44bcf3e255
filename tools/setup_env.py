"""Makes .venv, installs the pinned packages and brings the starter model; does nothing when that is done.

Standard library only, and syntax that an old Python can still read, because it says which Python is
needed. Knows nothing of the program but the name of the module that brings the starter model.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
MIN_FREE_BYTES = 6 * 10**9

# What pip prints, and what a person can do about it; the first that is found is said.
PIP_FAILURES = (
    (
        r"No space left on device|Errno 28",
        "The disk is full: the packages need about 6 GB. Free some space and run make again; "
        "what is installed already stays.",
    ),
    (
        r"NewConnectionError|NameResolutionError|Connection(Error|Reset|Refused| broken)|ProxyError|timed? ?out|"
        r"Temporary failure|Network is unreachable|SSLError",
        "The package index cannot be reached, and the packages come from there: go online (or set pip's "
        "index and proxy) and run make again; what is installed already stays.",
    ),
    (
        r"No matching distribution found for (?P<package>\S+)",
        "{package} does not exist for Python {python} on this machine: run make again with another Python, "
        "such as make PYTHON=python3.12, after removing .venv.",
    ),
)


class SetupError(Exception):
    """One sentence for the user, with the way out."""


class Environment:
    """The .venv of one checkout, and the stamps in it that say which requirements are installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self.log = self.folder / "setup.log"

    def stamp(self, requirements: str) -> Path:
        return self.folder / f".{requirements}.sha256"

    def is_installed(self, requirements: str) -> bool:
        """The stamp is written after pip has ended well, so an interrupted set-up is never taken for a whole one."""
        stamp = self.stamp(requirements)
        return self.python.exists() and stamp.exists() and stamp.read_text() == digest(self.root, requirements)

    def runs_pip(self) -> bool:
        """False for a venv that was cut off while being made, or whose Python has gone."""
        if not self.python.exists():
            return False
        command = [str(self.python), "-m", "pip", "--version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def digest(root: Path, requirements: str) -> str:
    """SHA-256 over a requirements file and those that it includes with -r."""
    text = (root / requirements).read_text(encoding="utf-8")
    included = re.findall(r"^-r\s+(\S+)", text, flags=re.MULTILINE)
    return hashlib.sha256("\n".join([text, *(digest(root, name) for name in included)]).encode()).hexdigest()


def check_python(version: tuple[int, ...], path: str) -> None:
    if version[:2] < OLDEST_PYTHON:
        raise SetupError(
            f"Python 3.11 or newer is needed, and {path} is {version[0]}.{version[1]}: install one (python.org, "
            "'brew install python@3.12', or your distribution's package) and run make PYTHON=/path/to/it."
        )


def check_venv(version: tuple[int, ...]) -> None:
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise SetupError(
                f"This Python has no {module} module: install it with "
                f"'sudo apt-get install python{version[0]}.{version[1]}-venv' (or take a Python from python.org) "
                "and run make again."
            )


def check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise SetupError(
            f"Set-up needs 6 GB of free disk, and {folder} has {free / 1e9:.1f} GB: free some space, or move the "
            "project to a larger disk, and run make again."
        )


def explain(output: str, version: tuple[int, ...]) -> str:
    """The sentence for what pip printed when it failed."""
    for pattern, sentence in PIP_FAILURES:
        found = re.search(pattern, output)
        if found:
            return sentence.format(python=f"{version[0]}.{version[1]}", **found.groupdict())
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    last = errors[-1] if errors else "pip ended without saying why"
    return f"pip could not install the packages ({last}): see .venv/setup.log, then run make again."


def say(line: str) -> None:
    print(line, flush=True)


def make_venv(env: Environment, version: tuple[int, ...]) -> None:
    say(f"Making .venv with Python {version[0]}.{version[1]}")
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(env.folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["it did not say why"]
        raise SetupError(f"The virtual environment could not be made ({last[0]}): remove .venv and run make again.")


def install(env: Environment, requirements: str, version: tuple[int, ...]) -> None:
    say(f"Installing the packages of {requirements} (some minutes; details in .venv/setup.log)")
    # A stamp of a wider set says that this one is installed too, so every stamp goes before anything changes.
    for stamp in env.folder.glob(".*.sha256"):
        stamp.unlink()
    command = [str(env.python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--retries", "2"]
    with env.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen([*command, "-r", str(env.root / requirements)], stdout=log, stderr=log)
        code = wait(process)
    if code != 0:
        raise SetupError(explain(env.log.read_text(encoding="utf-8", errors="replace"), version))
    for name in {requirements, "requirements.txt"}:
        env.stamp(name).write_text(digest(env.root, name))


def wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code; on a terminal a clock ticks meanwhile, so that nobody takes it for dead."""
    started = time.monotonic()
    while True:
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            if sys.stdout.isatty():
                print(f"\r  {time.monotonic() - started:.0f} s", end="", flush=True)
            continue
        if sys.stdout.isatty():
            print("\r          \r", end="", flush=True)
        return code


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two set-ups at once take turns. The lock is this file itself, so none is left behind."""
    with Path(__file__).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Waiting for another set-up of this folder to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def bring_packages(env: Environment, requirements: str) -> None:
    if env.is_installed(requirements):
        return
    version = tuple(sys.version_info[:3])
    check_venv(version)
    check_disk(env.root)
    if not env.runs_pip():
        make_venv(env, version)
    install(env, requirements, version)
    say("The packages are installed")


def bring_starter(env: Environment) -> int:
    return subprocess.run([str(env.python), "-m", "core.starter"], cwd=env.root, check=False).returncode


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Sets up the playground; does nothing when that is done.")
    parser.add_argument("--dev", action="store_true", help="also what the tests and checks need")
    chosen = parser.parse_args(arguments)
    env = Environment(ROOT)
    try:
        check_python(tuple(sys.version_info[:3]), sys.executable)
        with alone():
            bring_packages(env, "requirements-dev.txt" if chosen.dev else "requirements.txt")
            code = bring_starter(env)
        if code == 0:
            say("Set-up is done")
        return code
    except SetupError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("Set-up was interrupted: run make again to go on.", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
