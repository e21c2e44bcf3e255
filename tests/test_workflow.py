"""The workflow for other people's machines types what the README says, on the systems and Pythons that it promises."""

import torch
import yaml

from core import device, paths

WORKFLOW = paths.PROJECT_ROOT / ".github" / "workflows" / "machines.yml"


def test_the_readmes_two_commands_run_on_both_systems_and_on_the_oldest_and_a_newer_python():
    job = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["two-commands"]
    assert job["strategy"]["matrix"] == {"system": ["ubuntu-latest", "macos-latest"], "python": ["3.11", "3.13"]}
    typed = [line.split()[:2] for step in job["steps"] for line in step.get("run", "").splitlines() if line]
    commands = (paths.PROJECT_ROOT / "README.md").read_text(encoding="utf-8").split("```")[1].strip().splitlines()
    assert [line.partition("#")[0].split() for line in commands] == [["make"], ["make", "test"]]
    assert ["make", "test"] in typed
    assert any(line[0] == "make" and line[1].startswith("PLAYGROUND_ARGS") for line in typed if len(line) > 1)


def test_it_keeps_off_a_gpu_that_cannot_be_used(monkeypatch):
    job = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["two-commands"]
    for name, value in job["env"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.best_kind() == "cpu"
