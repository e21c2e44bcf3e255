"""Runs that are launched on several processes, by accelerate's own launcher, on CPUs.

Whole processes, each of which imports torch: two launches, and no more of them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core import adapters, history, paths, run_progress, run_request, runner, runs
from core.client import RunRequest
from core.device import Device
from core.errors import RequestError
from core.loader import ResidentModel
from core.runs import RunStatus
from core.token_rows import GroupedSampler

DEADLINE_S = 120.0
SETTINGS = {"learning_rate": 3e-3, "epochs": 20, "lora_rank": 4, "max_length": 256, "loss": "sigmoid+sft"}
# 30 pairs in fours are eight steps a pass: the last of them is a short one, and then comes the next pass.
STEPS_BEFORE_THE_STOP = 10


def launch(home: Path, *arguments: str) -> subprocess.Popen:
    """`accelerate launch` on two processes, in a session of its own as a terminal gives one."""
    flags = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    return subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", *flags.split(), "--main_process_port", "0",
         "playground.py", "train", *arguments],
        cwd=paths.PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PLAYGROUND_HOME": str(home)},
    )  # fmt: skip


def ended(process: subprocess.Popen) -> tuple[str, str]:
    """What it said on stdout and stderr; whatever of it hangs is killed and fails."""
    try:
        return process.communicate(timeout=DEADLINE_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def uneven_pairs(tmp_path: Path) -> Path:
    """40 pairs whose replies are of many lengths: what a process has of a batch is never like what another has."""
    path = tmp_path / "pairs.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(40):
            question = f"\n\nHuman: What is in box {n}?\n\nAssistant:"
            chosen = f"{question} Box {n} holds apples.{' Open it.' * (n * 7 % 5)} Next step: open it."
            rejected = f"{question} Who can say{' what it holds' * (n * 3 % 4)}, or none."
            file.write(json.dumps({"chosen": chosen, "rejected": rejected}) + "\n")
    return path


def test_two_processes_stop_together_at_the_adapter_that_one_process_has_there(tiny_model_dir, uneven_pairs, own_home):
    flags = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    process = launch(
        own_home, "--method", "dpo", "--dataset", str(uneven_pairs), "--model", str(tiny_model_dir), "--run", "two",
        "--batch-size", "2", "--json", *flags,
    )  # fmt: skip
    rows = paths.run_dir("two") / "metrics.jsonl"
    until = time.monotonic() + DEADLINE_S
    while process.poll() is None and time.monotonic() < until and len(runs.json_lines(rows)) < STEPS_BEFORE_THE_STOP:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = ended(process)
    two = runs.read_run("two")
    assert two.status is RunStatus.STOPPED, err
    assert json.loads(out.splitlines()[-1])["status"] == "stopped"
    assert err.count("two is stopped at step") == 1
    assert STEPS_BEFORE_THE_STOP <= two.step < two.steps == 160
    assert "Each prompt is computed twice" not in (paths.run_dir("two") / "log.txt").read_text()
    assert runs.read_config(paths.run_dir("two") / "run.yaml")["processes"] == 2

    with pytest.raises(RequestError, match="with 2 at work, and goes on with as many") as refused:
        runner.check_resumable("two")
    assert str(refused.value).endswith(f"Resume it with: {history.resume_command('two')}")
    assert "--num_processes 2 playground.py train --run two --resume" in history.resume_command("two")

    resident = ResidentModel(tiny_model_dir, Device("cpu", torch.float32, "sdpa", "for tests"))
    request = RunRequest(method="dpo", dataset=str(uneven_pairs), run="one", settings={**SETTINGS, "batch_size": 4})
    control = run_progress.Control()

    def stop_there() -> None:
        control.is_stopping = len(runs.read_metrics("one")) >= two.step - 1

    control.serve = stop_there
    one = runner.execute(resident, run_request.prepare(resident, *run_request.check(request)).name, control)
    assert (one.status, one.step, one.steps) == (RunStatus.STOPPED, two.step, two.steps)
    alone, shared = (load_file(runs.adapter_dir(name) / adapters.WEIGHTS) for name in ("one", "two"))
    assert alone.keys() == shared.keys()
    largest = max(float((alone[key] - shared[key]).abs().max()) for key in alone)
    moved = max(float(alone[key].abs().max()) for key in alone)
    assert largest < 1e-5 < 1e-2 < moved


def test_a_refused_request_is_one_sentence_and_nothing_is_left_waiting(own_home):
    process = launch(own_home, "--method", "dpo", "--dataset", str(own_home / "none.jsonl"))
    out, err = ended(process)
    assert out == ""
    assert err.count("There is no such file:") == 1
    # The launcher makes an end of its own of it, with a table that names what each process ended with.
    assert process.returncode == 1
    assert err.count("exitcode  : 2 ") == 1
    assert "Traceback" not in err.partition("failed (exitcode: 2)")[0]


def test_a_short_last_batch_is_filled_by_its_own_rows():
    lengths = [5, 3, 8, 1, 9, 2]
    short = list(GroupedSampler(lengths, 4, seed=1))
    full = GroupedSampler(lengths, 4, seed=1, is_filled=True)
    assert list(full) == [*short, *short[4:]]
    assert len(full) == len(list(full)) == 8
    assert list(GroupedSampler(lengths, 3, seed=1, is_filled=True)) == list(GroupedSampler(lengths, 3, seed=1))
