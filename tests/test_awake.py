"""What a Mac's own programs are asked for, seen through stand-ins of theirs on PATH; and that no other system is."""

import contextlib
import os
import platform
import stat
import time
from pathlib import Path

import psutil
import pytest

from core import awake


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which each program leaves a file of its name with its arguments, one a line."""
    for name, then in (("caffeinate", "exec sleep 60"), ("osascript", "")):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/{name}.new"\n'
                           f'mv "{tmp_path}/{name}.new" "{tmp_path}/{name}.said"\n{then}\n')  # fmt: skip
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    return tmp_path


def said(mac: Path, name: str) -> list[str]:
    file, end = mac / f"{name}.said", time.monotonic() + 20
    while not file.is_file():
        assert time.monotonic() < end, f"{name} was never asked"
        time.sleep(0.01)
    return file.read_text().splitlines()


def test_a_mac_is_kept_awake_exactly_as_long_as_the_run_goes_on(mac):
    with contextlib.suppress(RuntimeError), awake.awake():
        assert said(mac, "caffeinate") == ["-is", "-w", str(os.getpid())]
        (keeper,) = (child for child in psutil.Process().children() if child.name() in ("caffeinate", "sleep"))
        raise RuntimeError
    assert not keeper.is_running()


@pytest.mark.parametrize("text", ['" & (do shell script "touch /tmp/x") & "', "-e", "it's done; $(true) `true` \\"])
def test_a_notification_says_its_text_and_runs_none_of_it(mac, text):
    awake.notify("Preference Playground", text)
    *script, title, last = said(mac, "osascript")
    assert (title, last) == ("Preference Playground", text)
    assert script == [word for line in awake.SCRIPT for word in ("-e", line)]


def test_a_mac_without_these_programs_trains_all_the_same(mac, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with awake.awake():
        awake.notify("Preference Playground", "Done.")


def test_no_other_system_is_asked_for_anything(mac, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    with awake.awake():
        awake.notify("Preference Playground", "Done.")
    assert not list(mac.glob("*.said"))
