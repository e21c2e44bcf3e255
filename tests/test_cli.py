"""The commands as a shell sees them: what is on stdout, what on stderr, and how they end.

A few are whole processes; the rest call `cli.main`, which is the same but for the start of Python.
"""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from core import cli, paths, runs, settings
from core.compare import Comparison, list_comparisons
from core.errors import EngineDied
from core.export import COLUMNS
from core.judge import Judge
from core.prompts import Prompt
from core.runs import RunStatus
from core.settings import Decoding, Method
from tests.conftest import transcript_row
from tests.fake_gemini import FakeGemini, bad_key, prefers

DEADLINE_S = 180.0
TRAIN_KEYS = {
    "run", "status", "steps", "pairs", "loss", "reward_accuracy", "reward_margin", "preference_accuracy_base",
    "preference_accuracy_tuned", "train_s", "peak_memory_bytes", "adapter",
}  # fmt: skip
COMPARE_KEYS = {"n", "wins", "ties", "losses", "flips", "no_verdict", "win_rate", "low", "high", "csv", "log"}
FAST = ["--lora-rank", "4", "--max-length", "256", "--epochs", "1", "--learning-rate", "0.003"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    rows = "".join(json.dumps(transcript_row(n)) + "\n" for n in range(1, 41))
    (folder / "pairs.jsonl").write_text(rows, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_HOME", str(home))


def popen(home: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "playground.py", *arguments], cwd=paths.PROJECT_ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PLAYGROUND_HOME": str(home)},
    )  # fmt: skip


def shell(home: Path, *arguments: str) -> tuple[int, str, str]:
    process = popen(home, *arguments)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert "Traceback" not in err
    return process.returncode, out, err


@pytest.fixture(scope="module")
def trained(home: Path, tiny_model_dir: Path) -> dict:
    """A DPO run by a whole process, as its JSON; what it printed is under 'out' and 'err'."""
    code, out, err = shell(
        home, "train", "--method", "dpo", "--dataset", str(home / "pairs.jsonl"), "--model", str(tiny_model_dir),
        "--run", "first", "--json", *FAST,
    )  # fmt: skip
    assert code == 0, err
    return {**json.loads(out.splitlines()[-1]), "out": out, "err": err}


@pytest.fixture
def run_main(capsys: pytest.CaptureFixture, short_looks: None):
    """`cli.main` with its exit code, its JSON (None where there is none) and its stderr."""

    def run(*arguments: str) -> tuple[int, dict | None, str]:
        code = cli.main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        last = out.splitlines()[-1] if out.strip() else ""
        return code, json.loads(last) if last.startswith("{") else None, err

    return run


def weights(name: str) -> bytes:
    return (runs.adapter_dir(name) / "adapter_model.safetensors").read_bytes()


# train


def test_a_run_prints_one_json_object_last_and_its_progress_elsewhere(trained):
    assert trained.keys() >= TRAIN_KEYS
    assert (trained["run"], trained["status"], trained["steps"], trained["pairs"]) == ("first", "finished", 8, 30)
    assert trained["train_s"] > 0
    assert trained["peak_memory_bytes"] > 10_000_000
    for key in ("loss", "reward_accuracy", "preference_accuracy_base", "preference_accuracy_tuned"):
        assert isinstance(trained[key], float), key
    assert Path(trained["adapter"]).is_absolute()
    assert (Path(trained["adapter"]) / "adapter_model.safetensors").is_file()
    assert len(trained["out"].splitlines()) == 1
    assert "first is finished" in trained["err"]


def test_a_configuration_alone_repeats_a_run_to_the_bit(trained, run_main):
    code, again, _ = run_main("train", "--config", str(paths.run_dir("first") / "run.yaml"), "--json")
    assert code == 0
    assert again["run"] != "first"
    assert weights(again["run"]) == weights("first")
    same = TRAIN_KEYS - {"run", "train_s", "peak_memory_bytes", "adapter"}
    assert {key: again[key] for key in same} == {key: trained[key] for key in same}


def test_flags_beat_the_configuration(trained, run_main):
    config = str(paths.run_dir("first") / "run.yaml")
    code, other, _ = run_main("train", "--config", config, "--seed", "7", "--run", "other-seed", "--json")
    assert (code, other["run"]) == (0, "other-seed")
    assert runs.read_config(paths.run_dir("other-seed") / "run.yaml")["settings"]["seed"] == 7
    assert weights("other-seed") != weights("first")


def test_without_held_out_rows_their_figures_are_null(home, tiny_model_dir, run_main):
    code, done, _ = run_main(
        "train", "--method", "sft", "--dataset", str(home / "pairs.jsonl"), "--model", str(tiny_model_dir),
        "--held-out", "0", "--json", *FAST,
    )  # fmt: skip
    assert (code, done["pairs"], done["steps"]) == (0, 40, 10)
    assert done["preference_accuracy_base"] is None
    assert done["preference_accuracy_tuned"] is None
    assert done["reward_accuracy"] is None
    assert done["loss"] > 0


def test_a_base_named_by_where_one_stands_is_found_from_anywhere(home, tiny_model_dir, run_main, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_model_dir.parent)
    code, done, _ = run_main(
        "train", "--method", "sft", "--dataset", str(home / "pairs.jsonl"), "--model", f"./{tiny_model_dir.name}",
        "--held-out", "0", "--run", "from-here", "--json", *FAST,
    )  # fmt: skip
    assert code == 0
    monkeypatch.chdir(tmp_path)
    code, report, err = run_main("check", "--adapter", "from-here", "--json")
    assert (code, report) == (0, {"ok": True, "problems": []}), err


@pytest.mark.parametrize(("recipe", "method"), [("seed", "sft"), ("recommended", "dpo")])
def test_a_recipe_takes_another_base_and_other_rows(home, tiny_model_dir, run_main, recipe, method):
    code, done, err = run_main(
        "train", "--recipe", recipe, "--model", str(tiny_model_dir), "--dataset", str(home / "pairs.jsonl"),
        "--limit", "30", "--batch-size", "4", "--accumulation", "1", "--json", *FAST,
    )  # fmt: skip
    assert code == 0, err
    assert done.keys() >= TRAIN_KEYS
    assert (done["pairs"], done["status"]) == (30, "finished")
    assert runs.read_run(done["run"]).method == method


def test_ctrl_c_finishes_the_step_says_how_to_go_on_and_resume_does(home, tiny_model_dir, run_main):
    pairs = str(home / "pairs.jsonl")
    flags = ["train", "--method", "sft", "--dataset", pairs, "--model", str(tiny_model_dir), "--held-out", "0",
             "--json", *FAST, "--epochs", "8"]  # fmt: skip
    process = popen(home, *flags, "--run", "cut")
    end, tick = time.monotonic() + DEADLINE_S, threading.Event()
    while not (paths.run_dir("cut").exists() and len(runs.read_metrics("cut")) >= 3):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[1]
        tick.wait(0.02)
    since = datetime.fromisoformat(runs.read_run("cut").started_at)
    busy = f"The run 'cut' is going on in another process since {since:%H:%M}. Wait until it is done.\n"
    code, _, err = run_main("train", "--run", "cut", "--resume")
    assert (code, err) == (2, busy)
    code, _, err = run_main(*flags, "--run", "beside")
    assert (code, err) == (2, busy)
    assert not paths.run_dir("beside").exists()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    stopped = json.loads(out.splitlines()[-1])
    assert (process.returncode, stopped["status"]) == (130, "stopped")
    assert stopped.keys() >= TRAIN_KEYS
    assert 3 <= stopped["steps"] < 80
    assert Path(stopped["adapter"]).is_dir()
    assert "Resume it with: python playground.py train --run cut --resume" in err
    assert "Traceback" not in err
    code, _, err = run_main("train", "--run", "cut", "--resume", "--epochs", "9")
    assert code == 2
    assert err.strip() == (
        "The run 'cut' was started with epochs 8, and goes on as it was started, not with 9. Leave that out, or start "
        "a new run."
    )
    code, done, _ = run_main(*flags, "--run", "cut", "--resume")
    assert (code, done["status"], done["steps"]) == (0, "finished", 80)
    code, whole, _ = run_main(*flags, "--run", "whole")
    assert code == 0
    assert weights("cut") == weights("whole")
    assert [row["step"] for row in runs.read_metrics("cut")] == list(range(1, 81))


# compare, chat, check, runs


@pytest.fixture
def asked_for(trained, tmp_path: Path) -> list[str]:
    """A short comparison of the trained adapter on six prompts."""
    prompts = [{"id": f"p{n}", "category": "test", "prompt": f"What is in box {n}?"} for n in range(1, 7)]
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(prompts))
    return ["compare", "--adapter", "first", "--prompts", str(file), "--max-new-tokens", "8", "--json"]


@pytest.fixture
def gemini(monkeypatch: pytest.MonkeyPatch):
    """A server that prefers the longer response, where the judge is sent to."""
    with FakeGemini(default=prefers(len)) as server:
        monkeypatch.setenv("GEMINI_API_KEY", "AIzaNoKeyAtAll")
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        # What paces calls has tests of its own, on a clock that nobody waits for.
        at_once = replace(settings.JUDGE["judge_rate_per_s"], default=1000.0)
        monkeypatch.setitem(settings.JUDGE, "judge_rate_per_s", at_once)
        yield server


def test_a_comparison_without_a_judge_leaves_every_prompt_in_a_named_state(asked_for, run_main, tmp_path):
    table = tmp_path / "table.csv"
    code, result, err = run_main(*asked_for, "--judge", "none", "--csv", str(table))
    assert code == 0
    assert result.keys() >= COMPARE_KEYS
    assert (result["n"], result["no_verdict"], result["win_rate"]) == (0, 6, None)
    assert result["csv"] == str(table)
    assert Path(result["log"]).is_file()
    assert "Drift from base: " in err
    header, *rows = csv.reader(io.StringIO(table.read_bytes().decode("utf-8-sig")))
    assert tuple(header) == COLUMNS
    assert [row[0] for row in rows] == [f"p{n}" for n in range(1, 7)]
    assert {row[COLUMNS.index("judge_order_1")] for row in rows} == {"no_verdict:not_judged"}


def test_a_judged_comparison_replays_to_the_same_table(asked_for, run_main, gemini, tmp_path):
    code, result, _ = run_main(*asked_for, "--judge", "gemini", "--samples", "2", "--placebo-share", "0.5")
    assert code == 0
    assert result["n"] == result["wins"] + result["ties"] + result["losses"] + result["flips"] == 6
    assert result["no_verdict"] == 0
    table = tmp_path / "again.csv"
    asked = len(gemini.asked)
    code, again, _ = run_main("compare", "--replay", result["journal"], "--csv", str(table), "--json")
    assert code == 0
    assert {**again, "csv": ""} == {**result, "csv": ""}
    assert table.read_bytes() == Path(result["csv"]).read_bytes()
    assert len(gemini.asked) == asked


def test_a_refused_key_is_said_and_ends_in_named_states(asked_for, run_main, gemini):
    gemini.default = lambda asked: bad_key()
    code, result, err = run_main(*asked_for, "--judge", "gemini")
    assert (code, result["n"], result["no_verdict"]) == (0, 0, 6)
    assert "Gemini refuses the key." in err
    assert "key refused" in err
    assert len(gemini.asked) == 1


def test_a_comparison_that_was_cut_off_goes_on_from_its_journal(asked_for, run_main, gemini, monkeypatch):
    def cut_off(*_: object, **__: object) -> None:
        raise EngineDied("It was cut off.")

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "judge_pair", cut_off)
        code, _, err = run_main(*asked_for, "--judge", "gemini")
    assert (code, err.splitlines()[-1]) == (1, "It was cut off.")
    journal = str(list_comparisons()[0])
    code, _, err = run_main("compare", "--replay", journal)
    assert code == 2
    assert "is not finished. Go on with it: python playground.py compare --resume" in err
    before = Path(journal).read_text().count('"kind": "response"')
    code, result, _ = run_main("compare", "--resume", journal, "--json")
    assert (code, result["n"]) == (0, 6)
    assert Path(journal).read_text().count('"kind": "response"') == before


def test_a_vote_that_is_under_way_is_not_ended_from_a_terminal(trained, run_main, gemini):
    gemini.default = lambda asked: bad_key()
    prompt = Prompt("p1", "test", "What is in box 1?")
    decoding = Decoding(max_new_tokens=4)
    comparison = Comparison.create("first", "tiny-llama", [prompt], decoding, "gemini-3.8-flash")
    code, _, err = run_main("compare", "--resume", str(comparison.path))
    assert code == 2
    assert "Its votes are given in the app, under Compare." in err
    assert comparison.pending() == ["1"]


@pytest.mark.parametrize("contender", ["first", "base"])
def test_one_question_gets_one_response(trained, tiny_model_dir, run_main, contender):
    model = ["--model", str(tiny_model_dir)] if contender == "base" else []
    code, said, _ = run_main("chat", "--adapter", contender, "--prompt", "What is in box 3?", *model, "--json")
    assert code == 0
    assert said["num_tokens"] > 0
    assert isinstance(said["response"], str)


def test_at_strength_0_an_adapter_says_what_base_says(trained, tiny_model_dir, run_main):
    asked = ["chat", "--prompt", "What is in box 3?", "--model", str(tiny_model_dir), "--json", "--adapter"]
    tuned, muted, base = (run_main(*asked, *who)[1] for who in (["first"], ["first", "--strength", "0"], ["base"]))
    assert muted == base != tuned


def test_a_conversation_ends_with_an_empty_line(trained, run_main, monkeypatch):
    lines = iter(["Hello", "And then?", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    code, said, _ = run_main("chat", "--adapter", "first", "--json")
    assert (code, said) == (0, {"turns": 2})


def test_a_sound_adapter_is_sound_and_a_damaged_one_says_what_is_wrong(trained, home, tiny_model_dir, run_main):
    code, report, _ = run_main("check", "--adapter", "first", "--json")
    assert (code, report) == (0, {"ok": True, "problems": []})
    file = runs.adapter_dir("first") / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, report, err = run_main("check", "--adapter", "first", "--json")
    file.write_bytes(whole)
    assert (code, report["ok"]) == (1, False)
    assert report["problems"] == ["The adapter 'first' is damaged: adapter_model.safetensors is not as it was written."]
    assert report["problems"][0] in err


def test_the_history_lists_every_run(trained, run_main, capsys):
    code, listed, _ = run_main("runs", "--json")
    assert code == 0
    found = {run["name"]: run for run in listed["runs"]}
    assert found["first"]["status"] == "finished"
    assert cli.main(["runs"]) == 0
    assert "first" in capsys.readouterr().out


def test_the_history_says_why_a_run_failed(capsys):
    runs.write(runs.create(Method.DPO, "sad"), status=RunStatus.FAILED, reason="The disk is full.")
    assert cli.main(["runs"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sad ")]
    assert line.endswith("The disk is full.")


# Wrong requests, and failures


WRONG = [
    (["train"], "Say how to teach: --method sft, dpo or sft+dpo (or --recipe, or --config)."),
    (["train", "--method", "dpo"], "Say what to teach from: --dataset starter, a .jsonl file, or a Hub id."),
    (["train", "--methid", "dpo"], "--methid"),
    (["train", "--method", "ppo"], "invalid choice: 'ppo'"),
    (["dance"], "Argument COMMAND: invalid choice: 'dance'"),
    (["train", "--resume"], "--resume needs --run NAME: which run is to go on?"),
    (["train", "--run", "gone", "--resume"], "No run named 'gone'."),
    (["train", "--run", "../up", "--resume"], "'../up' is not a usable name for a run"),
    (["train", "--config", "/no/such/run.yaml"], "/no/such/run.yaml is not a readable run.yaml"),
    (["train", "--recipe", "seed", "--config", "run.yaml"], "Give --recipe or --config, not both"),
    (["train", "--recipe", "fast"], "invalid choice: 'fast'"),
    (["train", "--method", "sft", "--dataset", "/no/such/file.jsonl"], "There is no such file: '/no/such/file.jsonl'."),
    (["train", "--method", "sft", "--dataset", "starter", "--run", "a/b"], "'a/b' is not a usable name for a run"),
    (["train", "--method", "sft", "--dataset", "starter", "--limit", "2"], "Rows must be a whole number from 8"),
    (["train", "--method", "sft", "--dataset", "starter", "--held-out", "nan"], "Held out must be a whole number"),
    (["chat", "--adapter", "gone"], "No adapter named 'gone'. There are:"),
    (["chat", "--adapter", "first", "--strength", "nan"], "Adapter strength must be a number from 0 to 1.5, not 'nan'"),
    (["check", "--adapter", "../up"], "'../up' is not a usable name for a run"),
    (["check"], "--adapter"),
    (["compare", "--adapter", "gone"], "No adapter named 'gone'."),
    (["compare", "--adapter", "first", "--prompts", "/no/such.json"], "/no/such.json"),
    (["compare"], "Say what to hold against its base: --adapter NAME (or --resume or --replay JOURNAL)."),
    (["compare", "--adapter", "first", "--judge", "gemini"], "There is no Gemini key."),
    (["compare", "--adapter", "first", "--prompts", "sonnets"], "There is no prompt set 'sonnets'. There are: quick,"),
    (["compare", "--adapter", "first", "--csv", "/no/such/table.csv"], "/no/such/table.csv cannot be written"),
    (["compare", "--adapter", "first", "--samples", "9"], "Draws of each prompt must be a whole number from 1 to 5"),
    (
        ["compare", "--resume", "/no/such.jsonl", "--samples", "2"],
        "--samples cannot be given with --resume or --replay",
    ),
    (["compare", "--replay", "/no/such.jsonl"], "There is no comparison at /no/such.jsonl."),
    (["compare", "--adapter", "first", "--judge", "me"], "invalid choice: 'me'"),
    (["--port", "99999"], "'99999' is no port; take a number from 1 to 65535"),
    (["--port", "abc"], "'abc' is no port"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_a_wrong_request_is_one_sentence_and_exit_2(run_main, trained, arguments, words):
    before = {run.name for run in runs.list_runs()}
    code, result, err = run_main(*arguments)
    assert (code, result) == (2, None)
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert {run.name for run in runs.list_runs()} == before


TRAINING = [
    (["--beta", "7"], "Beta must be a number from 0.01 to 1, not '7'."),
    (["--learning-rate", "nan"], "Learning rate must be a number from 1e-07 to 0.01, not 'nan'."),
    (["--learning-rate", "inf"], "Learning rate must be"),
    (["--batch-size", "0"], "Batch size must be a whole number from 1 to 64 rows, not '0'."),
    (["--accumulation", "0"], "Accumulation must be"),
    (["--epochs", "1e9"], "Passes must be"),
    (["--lora-rank", "1.5"], "LoRA rank must be a whole number"),
    (["--loss", "magic"], "Loss must be one of sigmoid"),
    (["--max-length", "abc"], "Max length must be"),
    (["--dataset", "/no/such/file.jsonl"], "There is no such file: '/no/such/file.jsonl'."),
    (["--run", "No Way"], "'No Way' is not a usable name for a run"),
    (["--run", "first"], "There is a run named 'first' already. Take another name, or resume it."),
    (["--from-adapter", "gone"], "No adapter named 'gone'."),
    (["--model", "/no/such/model"], "There is no model '/no/such/model'"),
]


@pytest.mark.parametrize(("flags", "words"), TRAINING, ids=[" ".join(a) for a, _ in TRAINING])
def test_a_wrong_value_is_refused_before_anything_is_made(trained, home, tiny_model_dir, run_main, flags, words):
    before = {run.name for run in runs.list_runs()}
    start = ["--method", "dpo", "--dataset", str(home / "pairs.jsonl"), "--model", str(tiny_model_dir)]
    code, result, err = run_main("train", *start, *flags, "--json")
    assert (code, result) == (2, None)
    assert words in err.strip().splitlines()[-1]
    assert {run.name for run in runs.list_runs()} == before


def test_a_damaged_adapter_to_go_on_from_is_refused_before_a_base_is_loaded(run_main, monkeypatch):
    monkeypatch.setattr("core.headless.load", lambda _: pytest.fail("a base was loaded"))
    runs.adapter_dir("damaged").mkdir(parents=True)
    (runs.adapter_dir("damaged") / "adapter_config.json").write_text("{")
    code, _, err = run_main("train", "--method", "dpo", "--dataset", "starter", "--from-adapter", "damaged")
    shutil.rmtree(paths.run_dir("damaged"))
    assert code == 2
    assert err.startswith("The adapter 'damaged' ")


@pytest.mark.parametrize(("content", "words"), [
    (b"\x1f\x8b broken", "is a damaged gzip file"),
    (b"\xff\xfe{\x00}\x00", "is UTF-16 text"),
    (b"", "holds no rows"),
    (b'{"chosen": 1}\n', "gives 0 usable rows to train on"),
])  # fmt: skip
def test_data_that_cannot_be_used_is_refused_before_a_base_is_loaded(run_main, monkeypatch, tmp_path, content, words):
    monkeypatch.setattr("core.headless.load", lambda _: pytest.fail("a base was loaded"))
    file = tmp_path / "odd.jsonl"
    file.write_bytes(content)
    code, _, err = run_main("train", "--method", "dpo", "--dataset", str(file))
    assert code == 2
    assert words in err


def test_a_finished_run_has_nothing_to_resume(trained, run_main):
    code, _, err = run_main("train", "--run", "first", "--resume")
    assert code == 2
    assert err.strip() == "The run 'first' is finished, so there is nothing to resume. Start a new one from it."


def test_a_run_that_fails_is_one_sentence_and_exit_1(home, tiny_model_dir, run_main, monkeypatch):
    def poisoned(*_, **__):
        raise RuntimeError("a library's own words")

    monkeypatch.setattr("core.trainer.train", poisoned)
    code, result, err = run_main(
        "train", "--method", "sft", "--dataset", str(home / "pairs.jsonl"), "--model", str(tiny_model_dir),
        "--run", "fails", "--json",
    )  # fmt: skip
    assert (code, result) == (1, None)
    assert err.strip().splitlines()[-1].startswith("Training ended with an unexpected error (RuntimeError).")
    assert "a library's own words" not in err
    assert "a library's own words" in (paths.run_dir("fails") / "log.txt").read_text()
    assert runs.read_run("fails").status is RunStatus.FAILED


def test_an_unforeseen_error_is_a_sentence_whose_number_the_log_knows(run_main, monkeypatch, tmp_path):
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "new"))
    monkeypatch.setattr("core.runs.list_runs", lambda: {}["runs"])
    code, _, err = run_main("runs")
    assert code == 1
    assert err.startswith(
        "It failed with an unexpected error (KeyError). Details are in models/logs/commands.log under "
    )
    mark = err.strip().rpartition(" ")[2].rstrip(".")
    log = (paths.logs_dir() / "commands.log").read_text()
    assert mark in log
    assert "KeyError" in log
    monkeypatch.setenv("PLAYGROUND_HOME", "/dev/null/nowhere")
    code, _, err = run_main("runs")
    assert code == 1
    assert err.strip() == (
        "It failed with an unexpected error (KeyError), and models/logs cannot be written to keep its details."
    )


def test_a_whole_process_ends_alike_and_brings_no_base_for_a_wrong_request(home):
    for arguments in (["--methid"], ["train", "--method", "dpo", "--dataset", "starter", "--beta", "7"]):
        code, out, err = shell(home, *arguments)
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
    assert not (paths.base_dir() / paths.STARTER_NAME).exists()


def test_every_command_explains_itself(capsys):
    for command in ([], *([name] for name in cli.FLAGS)):
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, "--help"])
        assert ended.value.code == 0
        assert "usage: playground.py" in capsys.readouterr().out
