"""Training where something goes wrong on the way: the run says so in a sentence, and nothing that was good is lost."""

import json
import math
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers

from core import (
    adapters,
    checkpoints,
    coach,
    history,
    paths,
    run_progress,
    run_request,
    run_work,
    runner,
    runs,
    trainer,
)
from core.errors import AdapterError, DataError, ModelError, RequestError, SettingError
from core.evidence import Evidence
from core.runs import RunStatus
from core.settings import TRAINING, Method, Setting, Settings, Size
from tests.conftest import transcript_row
from tests.faults.one_run import STEPS, cut_off, prepared, still_talks, train, train_with

# What a run goes on from


def test_059_where_no_checkpoint_is_whole_a_run_does_not_begin_anew_in_silence(resident, pairs_file):
    name = prepared(resident, pairs_file)
    root = cut_off(resident, name)
    for folder in checkpoints.whole(root):
        (folder / "optimizer.pt").unlink()
    before = sorted(root.iterdir())
    sentence = (
        f"No checkpoint of the run '{name}' is as it was written, so it cannot go on. Start a new run from its "
        "settings, or remove its checkpoints folder: then it begins anew."
    )
    with pytest.raises(AdapterError) as error:
        runner.check_resumable(name)
    assert str(error.value) == sentence
    failed = train(resident, name, is_resumed=True)
    assert (failed.status, failed.reason) == (RunStatus.FAILED, sentence)
    assert sorted(root.iterdir()) == before
    shutil.rmtree(root)
    runner.check_resumable(name)
    assert train(resident, name, is_resumed=True).status is RunStatus.FINISHED


def test_060_a_flipped_bit_that_json_reads_alike_is_seen_too(resident, pairs_file):
    name = prepared(resident, pairs_file, settings={"learning_rate": 5e-5})
    assert train(resident, name).status is RunStatus.FINISHED
    newest = checkpoints.whole(paths.run_dir(name) / "checkpoints")[0]
    for manifest in (newest / "manifest.json", runs.adapter_dir(name) / "manifest.json"):
        whole = manifest.read_text()
        manifest.write_text(whole.replace("5e-05", "5E-05"))
        assert manifest.read_text() != whole
    assert not checkpoints.is_intact(newest)
    with pytest.raises(AdapterError) as error:
        adapters.verify(runs.adapter_dir(name))
    assert str(error.value) == f"The adapter '{name}' is damaged: manifest.json is not as it was written."


def _edit(name: str, **changes) -> None:
    config = runs.read_config(paths.run_dir(name) / "run.yaml")
    settings = config["settings"] | changes.pop("settings", {})
    runs.write_config(name, config | changes | {"settings": settings})


def _other_data(name: str) -> None:
    path = paths.run_dir(name) / run_request.DATA_FILE
    path.write_text(path.read_text().replace("apples", "pears", 1))


CHANGES = {
    "a setting": (
        lambda name: _edit(name, settings={"learning_rate": 2e-3}), RequestError,
        "was trained with learning_rate 0.001 so far, and now it would be 0.002. Put that back, or start a new run.",
    ),
    "the seed": (
        lambda name: _edit(name, settings={"seed": 7}), RequestError, "with seed 42 so far, and now it would be 7.",
    ),
    "the method": (
        lambda name: _edit(name, method="dpo"), RequestError, "with method sft so far, and now it would be dpo.",
    ),
    "the data": (_other_data, DataError, "The run's data has changed since it was started. Start a new run."),
    "the base": (
        lambda name: _edit(name, base_fingerprint="0" * 64), ModelError, "This run was started on",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "words"), CHANGES.values(), ids=CHANGES)
def test_061_a_run_does_not_go_on_with_anything_else_than_it_began_with(resident, pairs_file, change, kind, words):
    name = prepared(resident, pairs_file)
    root = cut_off(resident, name)
    change(name)
    with pytest.raises(kind) as error:
        run_work.read(resident, paths.run_dir(name))
    assert words in str(error.value)
    failed = train(resident, name, is_resumed=True)
    assert (failed.status, failed.reason) == (RunStatus.FAILED, str(error.value))
    assert [checkpoints.step_of(path) for path in checkpoints.whole(root)] == [5, 4]


def test_061_nor_with_other_versions_of_what_it_was_trained_with(resident, pairs_file, monkeypatch):
    name = prepared(resident, pairs_file)
    cut_off(resident, name)
    installed = run_request.versions()
    monkeypatch.setattr(run_request, "versions", lambda: installed | {"trl": "9.9"})
    with pytest.raises(RequestError) as error:
        run_work.read(resident, paths.run_dir(name))
    assert str(error.value) == (
        f"The run '{name}' was trained with trl {installed['trl']} so far, and now it would be 9.9. Put that back, or "
        "start a new run."
    )


def test_061_nor_from_an_adapter_that_has_changed_since(resident, pairs_file):
    parent = prepared(resident, pairs_file, settings={"learning_rate": 1e-2})
    assert train(resident, parent).status is RunStatus.FINISHED
    name = prepared(resident, pairs_file, "dpo", from_adapter=parent)
    cut_off(resident, name)
    assert run_work.read(resident, paths.run_dir(name)).from_adapter == parent
    history.rename(parent, "elder")
    assert run_work.read(resident, paths.run_dir(name)).from_adapter == "elder"
    history.delete("elder")
    other = prepared(resident, pairs_file, run="elder", settings={"learning_rate": 5e-3})
    assert train(resident, other).status is RunStatus.FINISHED
    with pytest.raises(AdapterError) as error:
        run_work.read(resident, paths.run_dir(name))
    assert str(error.value) == "The adapter 'elder' has changed since this run was started. Start a new run."


# Numbers that are none


@pytest.mark.parametrize("step", [4, STEPS], ids=["at a checkpoint", "at the last step"])
def test_069_a_gradient_that_is_no_number_never_gets_into_a_checkpoint_or_an_adapter(
    resident, pairs_file, monkeypatch, step
):
    def poisoned(stock):
        def training_step(self, model, *args, **kwargs):
            loss = stock(self, model, *args, **kwargs)
            if self.state.global_step == step - 1:
                next(p for p in model.parameters() if p.grad is not None).grad[0] = math.nan
            return loss

        return training_step

    failed = train_with(resident, pairs_file, monkeypatch, poisoned)
    assert failed.status is RunStatus.FAILED
    assert failed.reason == (
        f"The weights were no longer finite after step {step}, so training stopped there. Lower the learning rate and "
        "start again; the last checkpoint is kept."
    )
    assert runs.list_adapters() == []
    kept = checkpoints.latest_verified(paths.run_dir(failed.name) / "checkpoints")
    assert kept is not None
    assert checkpoints.step_of(kept) == step - 2
    assert still_talks(resident)
    assert train(resident, failed.name, is_resumed=True).status is RunStatus.FINISHED


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_070_a_loss_that_is_no_number_is_never_logged_as_nought(resident, pairs_file, monkeypatch, value):
    def poisoned(stock):
        def training_step(self, *args, **kwargs):
            loss = stock(self, *args, **kwargs)
            return loss * 0 + value if self.state.global_step == 2 else loss

        return training_step

    failed = train_with(resident, pairs_file, monkeypatch, poisoned)
    assert failed.reason.startswith(f"The loss was {value} at step 3, so training stopped there.")
    assert all(row["loss"] > 0 for row in runs.read_metrics(failed.name))
    assert trainer._arguments(Settings.of(Method.SFT, Size.SMALL), Path("x"), "cpu")["logging_nan_inf_filter"] is False


def test_071_pairs_without_a_difference_are_refused_and_a_gradient_of_nought_is_said(resident, pairs_file):
    rows = [transcript_row(n) for n in range(1, 41)]
    pairs_file.write_text("".join(json.dumps({"chosen": r["chosen"], "rejected": r["chosen"]}) + "\n" for r in rows))
    with pytest.raises(DataError) as error:
        prepared(resident, pairs_file, "dpo")
    assert "0 usable rows" in str(error.value)
    assert "chosen equals rejected" in str(error.value)
    assert runs.list_runs() == []

    def titles(norm: float, num: int) -> list[str]:
        rows = [{"step": step, "loss": 0.5, "grad_norm": norm} for step in range(1, num + 1)]
        return [card.title for card in coach.advise(Evidence(method="sft", steps=100, rows=rows))]

    assert "The pairs teach nothing" in titles(9e-8, 20)
    assert "The pairs teach nothing" not in titles(9e-8, 19) + titles(2e-7, 40)


def test_089_the_random_state_of_mps_is_saved_and_comes_back(resident, pairs_file, monkeypatch):
    state, given = torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state)
    monkeypatch.setattr(torch.mps, "set_rng_state", given.append)
    name = prepared(resident, pairs_file)
    root = cut_off(resident, name)
    assert not (checkpoints.whole(root)[0] / checkpoints.MPS_STATE).exists()
    trained = SimpleNamespace(
        model=resident.open_policy(Settings.of(Method.SFT, Size.SMALL)),
        args=SimpleNamespace(device=SimpleNamespace(type="mps")),
        state=SimpleNamespace(global_step=9, save_to_json=lambda path: Path(path).write_text("{}")),
        _save_optimizer_and_scheduler=lambda folder: None, _save_rng_state=lambda folder: None,
    )  # fmt: skip
    saved = checkpoints.save(trained, root, {})
    monkeypatch.setattr(transformers.Trainer, "_load_rng_state", lambda self, checkpoint: None)
    trainer.ResidentSFTTrainer._load_rng_state(trained_as(trained), str(saved))
    assert [torch.equal(one, state) for one in given] == [True]
    assert checkpoints.is_intact(saved)


def trained_as(stand_in: SimpleNamespace) -> trainer.ResidentSFTTrainer:
    """A trainer of which only the arguments are there."""
    empty = object.__new__(trainer.ResidentSFTTrainer)
    empty.args = stand_in.args
    return empty


# Stop


def test_072_a_stop_is_heard_at_once_and_done_within_a_step_and_its_save(resident, pairs_file):
    """Asked for between two of the four batches of the third step."""
    name = prepared(resident, pairs_file, settings={"batch_size": 1, "accumulation": 4, "checkpoint_every": 20})
    control, visits = run_progress.Control(), []

    def serve() -> None:
        if len(runs.read_metrics(name)) == 2:
            visits.append(time.monotonic())
            control.is_stopping = len(visits) >= 2

    control.serve = serve
    stopped = runner.execute(resident, name, control)
    assert (stopped.status, stopped.step, stopped.steps) == (RunStatus.STOPPED, 3, STEPS)
    assert len(visits) == 4
    kept = checkpoints.latest_verified(paths.run_dir(name) / "checkpoints")
    assert kept is not None
    assert checkpoints.step_of(kept) == 3
    assert runner.check_resumable(name).status is RunStatus.STOPPED
    assert runs.list_adapters() == [name]


# What is refused before anything begins


WRONG = ("abc", "", math.nan, math.inf, -math.inf, -1, 0, 1e309, 10**400, 1e9, [1], {"a": 1}, True, "0x10", "1;2")
FINE = {("warmup", 0), ("lora_dropout", 0), ("looks", 0), ("seed", 0), ("seed", 1e9)}


def certainly_wrong(setting: Setting) -> list[object]:
    """Of the values above those that cannot be meant, whatever the setting; None stands for its default."""
    if setting.choices or isinstance(setting.default, bool):
        return [value for value in WRONG if value is not True and value not in setting.choices]
    return [value for value in WRONG if not isinstance(value, int | float) or (setting.name, value) not in FINE]


@pytest.mark.parametrize("setting", TRAINING.values(), ids=TRAINING)
def test_087_a_setting_out_of_range_is_named_before_anything_is_made(resident, pairs_file, setting):
    for value in certainly_wrong(setting):
        with pytest.raises(SettingError) as refusal:
            prepared(resident, pairs_file, setting.methods[-1], settings={setting.name: value})
        assert str(refusal.value) == f"{setting.label} must be {setting.range_text()}, not {str(value)[:40]!r}."
    assert runs.list_runs() == []
