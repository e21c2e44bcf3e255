"""A run on disk: what is torn, damaged, stale, foreign or dead is seen as that, and hides nothing else."""

import datetime
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from core import paths, runs
from core.errors import RequestError
from core.prompts import read_prompts
from core.runs import Run, RunStatus
from core.settings import Method

DAMAGED = "Its status.json is damaged."


def made(name: str = "", **changes) -> Run:
    run = runs.create(Method.DPO, name, base="tiny", dataset="starter")
    return runs.write(run, **changes) if changes else run


def rewrite(name: str, **changes) -> None:
    """status.json as somebody else might have left it."""
    path = paths.run_dir(name) / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def finish_adapter(name: str) -> Path:
    folder = runs.adapter_dir(name)
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    return folder


# The list


def test_runs_come_newest_first_and_nothing_else_in_the_folder_is_one(own_home):
    assert runs.list_runs() == []
    old = made("old")
    made("new")
    rewrite("old", created_at="2020-01-01T00:00:00+00:00")
    (paths.finetuned_dir() / "README.md").write_text("not a run")
    (paths.finetuned_dir() / "empty-folder").mkdir()
    (paths.finetuned_dir() / "two..dots").mkdir()
    (paths.finetuned_dir() / "two..dots" / "status.json").write_text("{}")
    assert [run.name for run in runs.list_runs()] == ["new", old.name]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "7", '"running"', "\x00\xff", "{}", '{"status": "dancing"}', '{"status": []}',
        '{"status": {}}', "[" * 100_000, '{"status": "finished", "created_at": 5}',
        '{"status": "running", "pid": "me"}', '{"status": "running", "pid": null}',
        '{"status": "running", "pid_started": []}', '{"status": "finished", "result": []}',
        '{"status": "finished", "step": "three"}', '{"status": "paused", "eta_s": "soon"}',
        '{"status": "finished", "train_s": NaN}', '{"status": "finished", "train_s": Infinity}',
        f'{{"status": "finished", "peak_memory_bytes": {10**400}}}',
        '{"status": "finished", "result": {"held_out": "4"}}',
        '{"status": "finished", "result": {"held_out": {"a": 1}}}', '{"status": "finished", "result": {"trait": 7}}',
        f'{{"status": "finished", "result": {{"mcnemar_p": {10**400}}}}}',
        '{"status": "finished", "result": {"trait": {"n": Infinity}}}',
        '{"status": "finished", "facts": {"cut_replies": [1]}}',
    ],
    ids=range(28),
)  # fmt: skip
def test_a_damaged_status_is_flagged_and_the_others_are_listed(text):
    made("sound", status=RunStatus.FINISHED)
    made("damaged")
    (paths.run_dir("damaged") / "status.json").write_text(text)
    found = {run.name: run for run in runs.list_runs()}
    assert found["sound"].status is RunStatus.FINISHED
    assert (found["damaged"].status, found["damaged"].reason) == (RunStatus.FAILED, DAMAGED)
    assert runs.current_run() is None


def test_a_run_that_may_not_be_read_is_named_with_the_way_out_and_hides_no_other(monkeypatch):
    made("sound", status=RunStatus.FINISHED)
    made("roots", status=RunStatus.FINISHED)
    closed = paths.run_dir("roots")
    # The tests may run as root, whom no file mode stops.
    access, is_file = os.access, Path.is_file
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and access(path, mode))

    def refused(path: Path) -> bool:
        if path.is_relative_to(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    found = {run.name: run for run in runs.list_runs()}
    assert found["sound"].status is RunStatus.FINISHED
    assert found["roots"].status is RunStatus.FAILED
    assert found["roots"].reason.endswith(f"Give it back to your own account: sudo chown -R $USER '{closed}'.")
    assert runs.list_adapters() == []
    assert runs.read_metrics("roots") == []


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**70])
def test_an_impossible_process_is_no_process(pid):
    made("run", status=RunStatus.RUNNING)
    rewrite("run", pid=pid)
    assert runs.read_run("run").status is RunStatus.INTERRUPTED


def test_a_status_of_a_newer_version_is_still_read():
    made("run", status=RunStatus.FINISHED)
    rewrite("run", colour="green")
    assert runs.read_run("run").status is RunStatus.FINISHED


def test_a_run_deleted_while_it_is_listed_hides_no_other(monkeypatch):
    made("gone")
    made("here")
    names = runs._names()
    monkeypatch.setattr(runs, "_names", lambda: [*names, "never-was"])
    assert {run.name for run in runs.list_runs()} == {"gone", "here"}


def test_every_status_comes_back_as_it_was_written():
    for status in RunStatus:
        run = made(f"run-{status}", status=status, eta_s=1.5, result={"loss": 0.5, "left_out": {"too long": 2}})
        assert runs.read_run(run.name) == run


# Alive or not


def test_a_run_of_a_process_that_is_gone_is_interrupted():
    script = (
        "from core import runs; from core.settings import Method; from core.runs import RunStatus\n"
        "runs.write(runs.create(Method.SFT, 'killed'), status=RunStatus.RUNNING, eta_s=5.0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=paths.PROJECT_ROOT)
    killed = runs.read_run("killed")
    assert (killed.status, killed.reason, killed.eta_s) == (RunStatus.INTERRUPTED, runs.KILLED, None)
    assert runs.current_run() is None


def test_another_process_with_the_same_number_does_not_bring_a_run_to_life():
    made("run", status=RunStatus.RUNNING)
    assert runs.current_run() is not None
    rewrite("run", pid_started=runs.read_run("run").pid_started - 60)
    assert runs.read_run("run").status is RunStatus.INTERRUPTED


def test_a_killed_process_that_nobody_has_reaped_is_gone():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time() - psutil.boot_time()
    made("run", status=RunStatus.PAUSED)
    rewrite("run", pid=child.pid, pid_started=started)
    assert runs.read_run("run").is_alive
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert runs.read_run("run").status is RunStatus.INTERRUPTED
    child.wait()
    child.stdin.close()


def test_why_a_process_ended_is_written_only_where_it_did():
    made("lives", status=RunStatus.RUNNING)
    made("died", status=RunStatus.RUNNING)
    made("done", status=RunStatus.FINISHED)
    rewrite("died", pid=2**31)
    for name in ("lives", "died", "done", "never-was"):
        runs.explain_interruption(name, "The system killed it.", "Exit code -9.")
    assert runs.read_run("died").reason == "The system killed it."
    logs = list(paths.finetuned_dir().rglob("log.txt"))
    assert [path.parent.name for path in logs] == ["died"]
    assert logs[0].read_text().endswith(" interrupted The system killed it. Exit code -9.\n")
    assert (runs.read_run("lives").status, runs.read_run("lives").reason) == (RunStatus.RUNNING, "")
    assert (runs.read_run("done").status, runs.read_run("done").reason) == (RunStatus.FINISHED, "")


# Names


@pytest.mark.parametrize(
    "name",
    ["../up", "/etc", "a/b", "a\\b", "..", ".", "", "A", "ä", "a b", "a\x00b", "a\n", "-a", ".a", "a..b", "x" * 65,
     None, 7, ["a"], "con:", "a/../b"],
)  # fmt: skip
def test_a_name_never_leads_out_of_the_folder(name):
    for use in (paths.run_dir, runs.read_run, runs.read_metrics, runs.adapter_dir, runs.has_adapter):
        with pytest.raises(RequestError, match="is not a usable name for a run: take up to 64 lower-case letters"):
            use(name)
    if name:
        with pytest.raises(RequestError):
            runs.create(Method.DPO, name)
    assert not paths.finetuned_dir().exists() or list(paths.finetuned_dir().iterdir()) == []


def test_a_taken_name_is_refused_and_the_run_there_is_untouched():
    first = made("mine", step=3)
    with pytest.raises(RequestError) as error:
        runs.create(Method.SFT, "mine")
    assert str(error.value) == "There is a run named 'mine' already. Take another name, or resume it."
    assert runs.read_run("mine") == first


def test_an_unknown_run_is_refused_with_the_names_there_are():
    with pytest.raises(RequestError) as error:
        runs.read_run("gone")
    assert str(error.value) == "No run named 'gone'. There are: none yet."
    made("here")
    with pytest.raises(RequestError, match="There are: here."):
        runs.read_run("gone")


def test_names_made_up_in_one_minute_differ_even_when_the_clock_is_set_back(monkeypatch):
    times = iter([(14, 5), (14, 5), (13, 5), (13, 5), (14, 5)])

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 22, *clock)

    monkeypatch.setattr(runs.datetime, "datetime", Clock)
    names = []
    for clock in times:  # noqa: B007
        names.append(made().name)
    assert names == ["dpo-1122-1405", "dpo-1122-1405-2", "dpo-1122-1305", "dpo-1122-1305-2", "dpo-1122-1405-3"]
    assert len(runs.list_runs()) == 5


# Links


def test_a_link_among_the_runs_is_not_followed(tmp_path):
    made("real", status=RunStatus.FINISHED)
    finish_adapter("real")
    elsewhere = tmp_path / "elsewhere"
    paths.run_dir("real").rename(elsewhere)
    (paths.finetuned_dir() / "link").symlink_to(elsewhere)
    assert runs.list_runs() == []
    assert runs.list_adapters() == []
    with pytest.raises(RequestError, match="links inside models/finetuned are not followed"):
        runs.read_run("link")


def test_an_adapter_that_is_a_link_is_none(tmp_path):
    made("run", status=RunStatus.FINISHED)
    folder = finish_adapter("run")
    assert runs.list_adapters() == ["run"]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert runs.list_adapters() == []


def test_only_whole_adapters_are_listed():
    for name in ("none", "half", "whole"):
        made(name)
    (paths.run_dir("half") / ".adapter.new").mkdir()
    (paths.run_dir("half") / ".adapter.new" / "adapter_config.json").write_text("{}")
    (paths.run_dir("half") / "adapter").mkdir()
    finish_adapter("whole")
    assert runs.list_adapters() == ["whole"]


# What is written


def test_a_write_that_fails_leaves_the_last_one_whole(monkeypatch):
    made("run", status=RunStatus.RUNNING, step=4)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            runs.write(runs.read_run("run"), step=5)
    assert runs.read_run("run").step == 4
    assert [p.name for p in paths.run_dir("run").iterdir()] == ["status.json"]


def test_what_a_killed_write_left_aside_is_ignored():
    run = made("run", status=RunStatus.FINISHED)
    (paths.run_dir("run") / ".status.json.k1x").write_text('{"status": "ru')
    (paths.run_dir("run") / ".metrics.jsonl.k1x").write_text("torn")
    assert runs.list_runs() == [run]
    assert runs.read_metrics("run") == []


def test_status_cannot_hold_what_json_cannot():
    made("run")
    with pytest.raises(ValueError, match="JSON"):
        runs.write(runs.read_run("run"), eta_s=float("nan"))
    assert runs.read_run("run").eta_s is None


def test_a_reader_never_sees_half_a_status():
    made("run", base="x" * 20_000)
    script = (
        "from core import runs; from core.settings import Method\n"
        "run = runs.read_run('run')\n"
        "for step in range(1, 31): run = runs.write(run, step=step)"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], cwd=paths.PROJECT_ROOT)
    seen = [runs.read_run("run")]
    while writer.poll() is None:
        seen.append(runs.read_run("run"))
    seen.append(runs.read_run("run"))
    assert writer.returncode == 0
    assert all(len(run.base) == 20_000 for run in seen)
    assert [run.step for run in seen] == sorted(run.step for run in seen)
    assert seen[-1].step == 30


def test_metrics_survive_a_torn_line_and_go_on_after_it():
    made("run")
    for step in (1, 2, 3):
        runs.append_metrics("run", {"step": step, "loss": 1 / step})
    path = paths.run_dir("run") / "metrics.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert [row["step"] for row in runs.read_metrics("run")] == list(range(1, len(runs.read_metrics("run")) + 1))
    path.write_bytes(whole[:-5] + b'\xff\n7\n[]\nnull\n{"step": "x"}\n{"loss": 1}\n' + b"[" * 100_000 + b"\n")
    assert [row["step"] for row in runs.read_metrics("run")] == [1, 2]
    runs.cut_metrics("run", 1)
    runs.append_metrics("run", {"step": 2, "loss": 0.4})
    assert [(row["step"], row["loss"]) for row in runs.read_metrics("run")] == [(1, 1.0), (2, 0.4)]


def test_a_configuration_comes_back_and_anything_else_is_a_sentence(tmp_path):
    made("run")
    runs.write_config("run", {"method": "dpo", "settings": {"beta": 0.1}, "model": "ä"})
    path = paths.run_dir("run") / "run.yaml"
    assert runs.read_config(path) == {"method": "dpo", "settings": {"beta": 0.1}, "model": "ä"}
    for content in (
        b"a: [", b"- a\n- b", b"\xff\xfe", b"", b"!!python/object/apply:os.system ['true']", b"created: 2026-13-45",
        b"seed: " + b"9" * 5_000, b"[" * 5_000, b"a: b\n" * 300_000,
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(RequestError, match="run.yaml"):
            runs.read_config(path)
    with pytest.raises(RequestError, match="is not a readable run.yaml"):
        runs.read_config(tmp_path / "gone.yaml")


def test_what_never_ends_or_never_begins_is_not_read(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    for path in (Path("/dev/zero"), pipe):
        with pytest.raises(RequestError, match=rf"^{path} is not a readable run.yaml \(It is not a file\)\.$"):
            runs.read_config(path)
        with pytest.raises(RequestError, match=rf"^{path} cannot be read \(It is not a file\)\. Give the path of a"):
            read_prompts(path)
    made("run", status=RunStatus.FINISHED)
    (paths.run_dir("run") / "status.json").unlink()
    os.mkfifo(paths.run_dir("run") / "status.json")
    assert runs.read_run("run").reason == DAMAGED


def test_runs_are_for_their_owner_alone():
    made("run")
    assert paths.run_dir("run").stat().st_mode & 0o077 == 0
    assert asdict(runs.read_run("run"))["pid"] == os.getpid()
