"""What can be done with runs that are there: nothing of it reaches a run that goes on, or leaves models/finetuned."""

import json
import shlex
from pathlib import Path

import pytest
from accelerate.commands import launch

from core import cli, history, paths, runs
from core.compare import Comparison
from core.errors import PlaygroundError, RequestError
from core.prompts import Prompt
from core.runs import Run, RunStatus
from core.settings import Decoding, Method


def made(name: str, status: RunStatus = RunStatus.FINISHED, from_adapter: str = "", **config) -> Run:
    run = runs.create(Method.DPO, name, base="tiny", dataset="starter")
    runs.write_config(name, {"method": "dpo", "model": "tiny", "from_adapter": from_adapter, **config})
    return runs.write(run, status=status)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Notes


def test_a_note_outlives_what_the_trainer_writes_and_another_name():
    run = made("mine", RunStatus.RUNNING)
    history.note("mine", "  the one with beta 0.3 <b>\n")
    runs.write(run, status=RunStatus.FINISHED)
    history.rename("mine", "yours")
    assert history.read_note("yours") == "the one with beta 0.3 <b>"
    history.note("yours", "")
    assert history.read_note("yours") == ""


def test_a_note_is_of_a_run_that_is_there_and_of_a_size_that_can_be_read():
    made("mine")
    with pytest.raises(RequestError, match="No run named 'gone'. There are: mine."):
        history.note("gone", "hello")
    with pytest.raises(RequestError) as error:
        history.note("mine", "x" * 2001)
    assert str(error.value) == "A note may have 2,000 characters, and this one has 2,001."
    assert not (paths.finetuned_dir() / "gone").exists()


# Another name


def test_a_renamed_run_is_the_same_run_and_those_that_start_from_it_find_it():
    made("old", beta=0.1)
    made("child", from_adapter="old")
    made("other", from_adapter="child")
    runs.write(runs.read_run("child"), facts={"follows": "old", "pairs": 7})
    before = files(paths.run_dir("old"))
    other = files(paths.run_dir("other"))
    history.rename("old", "new")
    after = files(paths.run_dir("new"))
    assert not paths.run_dir("old").exists()
    assert after.keys() - before.keys() == {"log.txt"}
    assert json.loads(after["status.json"]) == json.loads(before["status.json"]) | {"name": "new"}
    assert after["run.yaml"] == before["run.yaml"]
    config = runs.read_config(paths.run_dir("child") / "run.yaml")
    assert config == {"method": "dpo", "model": "tiny", "from_adapter": "new"}
    assert runs.read_run("child").facts == {"follows": "new", "pairs": 7}
    assert files(paths.run_dir("other")) == other


@pytest.mark.parametrize("name", ["../up", "", "A", "a/b", "x" * 65, "ä", "mine", "theirs"])
def test_a_bad_or_a_taken_name_changes_nothing(name):
    made("mine")
    (paths.finetuned_dir() / "theirs").mkdir()
    before = files(paths.home())
    with pytest.raises(RequestError):
        history.rename("mine", name)
    assert files(paths.home()) == before
    assert runs.read_run("mine").name == "mine"


@pytest.mark.parametrize("act", [history.delete, history.losses, lambda name: history.rename(name, "new")])
def test_a_run_that_goes_on_and_what_it_starts_from_are_left_alone(act):
    made("parent")
    made("goes-on", RunStatus.RUNNING, from_adapter="parent")
    before = files(paths.home())
    with pytest.raises(RequestError) as error:
        act("goes-on")
    assert str(error.value) == "The run 'goes-on' is going on. Stop it, or wait until it is done."
    with pytest.raises(RequestError) as error:
        act("parent")
    assert str(error.value) == (
        "The run 'goes-on' is going on, and it starts from 'parent'. Stop it, or wait until it is done."
    )
    assert files(paths.home()) == before


# An end


def test_a_deleted_run_is_gone_and_another_goes_on():
    made("goes-on", RunStatus.RUNNING)
    made("mine", RunStatus.INTERRUPTED)
    before = files(paths.run_dir("goes-on"))
    history.delete("mine")
    assert [run.name for run in runs.list_runs()] == ["goes-on"]
    assert list(paths.finetuned_dir().iterdir()) == [paths.run_dir("goes-on")]
    assert files(paths.run_dir("goes-on")) == before


def test_a_damaged_run_can_be_deleted_too():
    made("mine")
    for name in ("status.json", "run.yaml"):
        (paths.run_dir("mine") / name).write_bytes(b"\xff{")
    made("other", from_adapter="mine")
    assert len(history.losses("mine")) == 1
    history.delete("mine")
    assert [run.name for run in runs.list_runs()] == ["other"]


def test_deleting_follows_no_link_and_never_leads_out(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years of work")
    made("mine")
    (paths.run_dir("mine") / "checkpoints").symlink_to(elsewhere)
    (paths.finetuned_dir() / "link").symlink_to(elsewhere)
    history.delete("mine")
    for name in ("link", "../../elsewhere", str(elsewhere), "..", "", "a\x00"):
        with pytest.raises(RequestError):
            history.delete(name)
    assert files(elsewhere) == {"thesis.txt": b"years of work"}


def test_what_cannot_be_removed_is_no_run_any_more_and_is_said(monkeypatch):
    made("mine")

    def stuck(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(history.shutil, "rmtree", stuck)
    with pytest.raises(PlaygroundError) as error:
        history.delete("mine")
    left = paths.finetuned_dir() / ".mine.gone"
    assert str(error.value) == (
        f"Not all of 'mine' could be deleted (The folder may not be written). What is left is in {left}."
    )
    assert runs.list_runs() == []


def test_what_else_a_deletion_costs_is_said_before():
    made("mine")
    assert history.losses("mine") == []
    for name in ("b", "c"):
        made(name, from_adapter="mine")
    for adapter in ("mine", "mine", "b"):
        Comparison.create(adapter, "tiny", [Prompt("p1", "quick", "Why?")], Decoding())
    assert history.losses("mine") == [
        "Started from it: c, b. Adapters stay, but no such run can be resumed or repeated.",
        "Comparisons of it: 2. Their results stay, but none of them can go on.",
    ]


# Side by side


def test_only_what_differs_is_listed_in_words():
    made("one", settings={"beta": 0.1, "learning_rate": 5e-4, "seed": 1}, versions={"trl": "1.16.0"}, data="data.jsonl")
    made("two", settings={"beta": 0.3, "learning_rate": 5e-4, "seed": 1}, versions={"trl": "1.17.0"})
    made("three", settings={"learning_rate": 5e-4, "seed": 1}, versions={"trl": "1.16.0"}, from_adapter="one")
    assert history.differences(["one", "two", "three"]) == [
        ["Starts from", "", "", "one"],
        ["Beta", "0.1", "0.3", ""],
        ["versions: trl", "1.16.0", "1.17.0", "1.16.0"],
    ]
    assert history.differences(["one", "one"]) == []


# Again


@pytest.mark.parametrize("home", [paths.PROJECT_ROOT, Path("/home/of an'other")])
def test_the_command_names_the_very_file_whatever_a_shell_would_make_of_it(home, monkeypatch, tmp_path):
    made("mine")
    real = paths.run_dir("mine")
    monkeypatch.setattr(paths, "run_dir", lambda name: home / "models" / "finetuned" / name)
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == "run.yaml" and real.exists())
    words = shlex.split(history.reproduce_command("mine"))
    assert words[0] == "python" or (paths.PROJECT_ROOT / words[0]).exists()
    assert words[1:-1] == ["playground.py", "train", "--config"]
    assert paths.PROJECT_ROOT / words[-1] == home / "models/finetuned/mine/run.yaml"
    if home == paths.PROJECT_ROOT:
        assert words[-1] == "models/finetuned/mine/run.yaml"


@pytest.mark.parametrize(("batch", "accumulation", "shares"), [(4, 2, ("2", None)), (1, 8, (None, "4")), (3, 1, None)])
def test_the_command_for_two_gpus_is_one_that_both_programs_take_and_keeps_the_pairs_a_step(
    batch, accumulation, shares, monkeypatch
):
    made("mine")
    runs.write_config("mine", {"settings": {"batch_size": batch, "accumulation": accumulation}})
    words = shlex.split(history.launch_command("mine"))
    if shares is None:
        assert words == []
        return
    assert words[:2] == ["accelerate", "launch"] or (paths.PROJECT_ROOT / words[0]).exists()
    monkeypatch.chdir(paths.PROJECT_ROOT)
    launched, defaults, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(words[2:]))
    assert (launched.multi_gpu, launched.num_processes, launched.num_machines) == (True, 2, 1)
    assert launched.mixed_precision == defaults.mixed_precision == "no"
    assert launched.training_script == "playground.py"
    asked = cli._parser().parse_args(launched.training_script_args)
    assert (asked.command, asked.config) == ("train", str(paths.run_dir("mine") / "run.yaml"))
    assert (asked.batch_size, asked.accumulation) == shares


def test_what_was_trained_on_three_processes_is_repeated_on_three():
    made("mine")
    runs.write_config("mine", {"settings": {"batch_size": 4}, "processes": 3})
    assert "launch --config_file assets/cluster/several_gpus.yaml --num_processes 3 playground.py train --config" in (
        history.reproduce_command("mine")
    )
    assert history.launch_command("mine") == ""


def test_a_run_with_another_after_it_is_not_shared_out():
    made("mine")
    runs.write_config("mine", {"settings": {"batch_size": 4}, "then": {"batch_size": 4}})
    assert history.launch_command("mine") == ""


def test_a_run_without_a_configuration_cannot_be_repeated():
    runs.create(Method.DPO, "mine")
    with pytest.raises(RequestError) as error:
        history.reproduce_command("mine")
    assert str(error.value) == "The run 'mine' was cut off before it began, so there is nothing to repeat."


# A curve in a cell


def test_a_curve_in_a_cell_keeps_its_shape_at_any_length():
    assert history.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert history.sparkline([3, 1, float("nan"), 2]) == "█▁▅"
    assert history.sparkline([n / 10 for n in range(1600)]) == "▁▂▃▃▄▅▆▆▇█"
    assert history.sparkline([2.0] * 5) == "▁▁▁▁▁"
    assert history.sparkline([1.0]) == history.sparkline([]) == history.sparkline([float("inf"), 1.0]) == ""
