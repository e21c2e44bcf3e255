"""One process of a home serves its page, and one trains: whoever comes second is told who is first."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core import cli, locks, paths, runs
from core.errors import BusyError

HERE = "http://127.0.0.1:7861/"


@contextmanager
def another_process(code: str) -> Iterator[subprocess.Popen]:
    """One that has run `code` with `locks`, and goes on until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from core import locks\n{code}\nprint(flush=True); input()"], cwd=paths.PROJECT_ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        process.stdout.readline()
        yield process
        process.kill()


def serving(url: str = HERE) -> str:
    return f"held = locks.serving(); announce = held.__enter__(); {url!r} and announce({url!r})"


def test_a_second_app_says_where_the_first_is(capsys, own_home):
    with another_process(serving()):
        assert cli.main(["--no-browser"]) == 2
    assert capsys.readouterr().err == (
        f"The playground is open already, at {HERE}. Use that page, or set PLAYGROUND_HOME to another folder.\n"
    )
    assert not (own_home / "models" / "logs" / "engine.log").exists()


def test_a_second_app_in_the_same_moment_is_told_to_wait():
    with another_process(serving()):
        pass
    with another_process(serving(url="")), pytest.raises(BusyError, match="The playground is being opened already."):
        locks.serving().__enter__()


def test_a_killed_app_and_another_home_are_in_nobodys_way(monkeypatch, tmp_path: Path):
    with another_process(serving()), monkeypatch.context() as patch:
        patch.setenv("PLAYGROUND_HOME", str(tmp_path / "other"))
        with locks.serving():
            pass
    with locks.serving(), locks.training():
        pass


def test_a_process_that_trains_is_named_with_the_time_since_when():
    code = (
        "from core import runs; from core.settings import Method\n"
        "held = locks.training(); held.__enter__()\n"
        "run = runs.write(runs.create(Method.DPO, 'first'), status='running')"
    )
    with another_process(code):
        run = runs.read_run("first")
        begun = datetime.fromisoformat(run.created_at)
        for started_at, said in ((begun.replace(hour=14, minute=5), "14:05"), (begun - timedelta(400), None)):
            text = json.dumps(asdict(run) | {"started_at": started_at.isoformat()})
            (paths.run_dir("first") / "status.json").write_text(text)
            with pytest.raises(BusyError) as refusal, locks.training():
                pass
            assert str(refusal.value) == (
                f"The run 'first' is going on in another process since {said or f'{started_at:%d %b %H:%M}'}. Wait "
                "until it is done."
            )


def test_a_process_that_is_about_to_train_keeps_others_from_it():
    with another_process("held = locks.training(); held.__enter__()"):
        with pytest.raises(BusyError) as refusal, locks.training():
            pass
        assert str(refusal.value) == "Another process is about to train. Wait until it is done."
    with locks.training():
        pass
