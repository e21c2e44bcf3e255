"""Writes requirements.lock: every package that requirements.txt comes to, but torch, with the hashes of its wheels.

What is installed in the Python that runs this says which versions; the package index that pip is set to says the
hashes. torch is left out, since its wheel is another one on each machine: install it by its version first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"torch"}
# What pip is asked for beside this machine itself.
PLATFORMS = {"this machine": "", "macOS on Apple silicon": "macosx_14_0_arm64"}
HEADER = """\
# Made by `make lock` for Python {python} on {platforms}: what requirements.txt comes to, but torch.
# Install torch by its version first, then: pip install --require-hashes --no-deps -r requirements.lock
"""


def required(text: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    found = [Requirement(line) for line in lines if line]
    return [one for one in found if one.marker is None or one.marker.evaluate()]


def installed(wanted: list[Requirement]) -> dict[str, str]:
    """The versions of all packages that these come to here, by name."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        one = wanted.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed in {sys.executable}. Run make setup, then this again.") from None
        versions[name] = found.version
        for needed in map(Requirement, found.requires or ()):
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                wanted.append(needed)
    return {name: version for name, version in sorted(versions.items()) if name not in LEFT_OUT}


def hashes(versions: dict[str, str], platform: str) -> dict[str, str]:
    """The SHA-256 of the wheel of each that pip would install there."""
    with tempfile.TemporaryDirectory() as folder:
        asked, report = Path(folder, "asked.txt"), Path(folder, "report.json")
        # A local version ("+cpu") names a build of this machine alone.
        asked.write_text("".join(f"{name}=={version.partition('+')[0]}\n" for name, version in versions.items()))
        there = ["--platform", platform, "--target", str(Path(folder, "target"))] if platform else []
        command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--only-binary", ":all:", "--report", str(report), *there, "-r", str(asked)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise SystemExit(f"pip cannot say what it would install: {last}. It needs the package index; try again.")
        items = json.loads(report.read_text())["install"]
    return {
        canonicalize_name(item["metadata"]["name"]): item["download_info"]["archive_info"]["hashes"]["sha256"]
        for item in items
    }


def main() -> None:
    versions = installed(required((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    found = [hashes(versions, platform) for platform in PLATFORMS.values()]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [HEADER.format(python=python, platforms=" and ".join([sys.platform, *list(PLATFORMS)[1:]]))]
    for name, version in versions.items():
        wheels = sorted({there[name] for there in found})
        lines.append(" \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{wheel}" for wheel in wheels)]) + "\n")
    (ROOT / "requirements.lock").write_text("".join(lines), encoding="utf-8")
    print(f"requirements.lock: {len(versions)} packages")


if __name__ == "__main__":
    main()
