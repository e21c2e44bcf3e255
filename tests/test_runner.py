"""Runs on the resident weights, from request to adapter, on a tiny random model in float32 and bfloat16."""

import dataclasses
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from core import adapters, generate, history, paths, run_progress, run_request, run_work, runner, runs, shared_prefix
from core.client import RunRequest, Turn
from core.device import Device
from core.errors import AdapterError, DataError, ModelError, RequestError, SettingError
from core.loader import BASE, ResidentModel
from core.messages import ask
from core.planning import Planner
from core.runs import RunStatus
from core.settings import Decoding

FAST = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4, "accumulation": 2, "lora_rank": 4, "max_length": 256}
CPU = Device("cpu", torch.float32, "sdpa", "for tests")

pytestmark = pytest.mark.usefixtures("short_looks")


@pytest.fixture
def resident(tiny_model_dir: Path) -> ResidentModel:
    paths.ensure_home()
    return ResidentModel(tiny_model_dir, CPU)


def request(pairs_file: Path, method: str = "dpo", run: str = "", **changes) -> RunRequest:
    settings = {**FAST, **changes.pop("settings", {})}
    return RunRequest(method=method, dataset=str(pairs_file), run=run, settings=settings, **changes)


def run(resident: ResidentModel, asked: RunRequest, control: run_progress.Control | None = None) -> runs.Run:
    return runner.execute(
        resident, run_request.prepare(resident, *run_request.check(asked)).name, control or run_progress.Control()
    )


def weights(name: str) -> dict[str, torch.Tensor]:
    return load_file(runs.adapter_dir(name) / adapters.WEIGHTS)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Visitor:
    """Chats at every chance that a run gives, and may ask it to stop after so many."""

    def __init__(self, resident: ResidentModel, contender: str, stop_at: int = 0) -> None:
        self.resident = resident
        self.contender = contender
        self.stop_at = stop_at
        self.visits = 0
        self.num_kept = 0
        self.control = run_progress.Control(serve=self.visit)

    def visit(self) -> None:
        self.visits += 1
        if self.visits % 3 == 0:
            turns = [Turn(c, ask("Where is the tea?")) for c in (BASE, self.contender)]
            generate.answer(self.resident, turns, Decoding(max_new_tokens=4, temperature=1.0))
            generate.stream(self.resident, turns, Decoding(max_new_tokens=2), lambda chunk: None)
            self.num_kept += len(self.resident.chat_cache)
        if self.stop_at and len(runs.read_metrics(runs.list_runs()[0].name)) >= self.stop_at:
            self.control.is_stopping = True


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_finished_run_answers_at_once_and_leaves_the_base_alone(resident, pairs_file, method):
    done = run(resident, request(pairs_file, method))
    assert done.status is RunStatus.FINISHED, done.reason
    assert resident.adapters == (done.name,)
    assert done.result["held_out"] == 10
    assert done.result["preference_accuracy_tuned"] is not None
    assert done.result["peak_memory_bytes"] > 0
    assert done.step == done.steps == len(runs.read_metrics(done.name))
    assert "forward" not in vars(resident.model)
    resident.prove_base()
    assert generate.answer(resident, [Turn(done.name, ask("Hello"))], Decoding(max_new_tokens=3))[0].num_tokens > 0


def test_the_first_margin_is_zero_whatever_the_run_starts_from(resident, pairs_file):
    settings = {"loss": "sigmoid"}
    first = runs.read_metrics(run(resident, request(pairs_file, settings=settings)).name)[0]
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
    sft = run(resident, request(pairs_file, "sft", settings={"learning_rate": 1e-2}))
    dpo = run(resident, request(pairs_file, from_adapter=sft.name, settings=settings))
    assert runs.read_metrics(dpo.name)[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert not same(weights(sft.name), weights(dpo.name))


def test_a_base_whose_pairs_cannot_share_a_row_is_trained_on_two_and_the_log_says_why(
    resident, pairs_file, monkeypatch
):
    monkeypatch.setattr(shared_prefix, "ARCHITECTURES", ())
    why = "Each prompt is computed twice: sharing it has not been tried with llama models"
    assert Planner().plan(resident, request(pairs_file)).twice in why
    done = run(resident, request(pairs_file))
    assert done.status is RunStatus.FINISHED, done.reason
    assert why in (paths.run_dir(done.name) / "log.txt").read_text()


def test_chatting_during_a_run_changes_nothing_that_is_trained(resident, pairs_file):
    quiet = run(resident, request(pairs_file))
    visitor = Visitor(resident, quiet.name)
    generate.stream(resident, [Turn(BASE, ask("Hello"))], Decoding(max_new_tokens=2), lambda chunk: None)
    assert len(resident.chat_cache) == 1
    busy = run(resident, request(pairs_file), visitor.control)
    assert visitor.visits > 10
    assert same(weights(quiet.name), weights(busy.name))
    # What a conversation has read takes memory that is the run's.
    assert visitor.num_kept == len(resident.chat_cache) == 0


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_stopped_run_goes_on_to_the_same_bits_and_touches_no_other_adapter(resident, pairs_file, method):
    whole = run(resident, request(pairs_file, method))
    before = weights(whole.name)
    visitor = Visitor(resident, whole.name, stop_at=2)
    stopped = run(resident, request(pairs_file, method), visitor.control)
    assert stopped.status is RunStatus.STOPPED
    assert 2 <= stopped.step < stopped.steps
    assert stopped.name in runs.list_adapters()
    assert stopped.train_s > 0
    runs.write(stopped, train_s=1000.0, peak_memory_bytes=10**15)
    resumed = runner.execute(resident, stopped.name, run_progress.Control(), is_resumed=True)
    assert resumed.status is RunStatus.FINISHED, resumed.reason
    assert resumed.result["train_s"] > 1000
    assert resumed.result["peak_memory_bytes"] == 10**15
    assert same(weights(resumed.name), before)
    assert [row["step"] for row in runs.read_metrics(resumed.name)] == list(range(1, resumed.steps + 1))
    resident.attach(whole.name)
    assert same(weights(whole.name), before)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_stop_in_the_first_step_is_a_stop_though_nothing_is_learnt_yet(resident, pairs_file, method):
    def stop_at_once() -> None:
        control.is_stopping = control.is_stopping or runs.list_runs()[0].phase == runs.Phase.TRAINING

    control = run_progress.Control(serve=stop_at_once)
    # The warm-up's first step has a learning rate of 0.
    stopped = run(resident, request(pairs_file, method), control)
    assert (stopped.status, stopped.reason, stopped.step) == (RunStatus.STOPPED, "", 1)
    assert stopped.name in runs.list_adapters()
    assert stopped.name not in resident.adapters
    resumed = runner.execute(resident, stopped.name, run_progress.Control(), is_resumed=True)
    assert resumed.status is RunStatus.FINISHED, resumed.reason
    assert resumed.name in resident.adapters


def test_half_precision_leaves_the_base_alone_and_repeats_itself(tiny_model_dir, pairs_file):
    paths.ensure_home()
    half = ResidentModel(tiny_model_dir, Device("cpu", torch.bfloat16, "sdpa", "for tests"))
    probe = half._probe_logits(BASE)
    first, second = (run(half, request(pairs_file)) for _ in range(2))
    assert first.status is second.status is RunStatus.FINISHED, first.reason
    assert torch.equal(half._probe_logits(BASE), probe)
    assert same(weights(first.name), weights(second.name))
    assert all(w.dtype == torch.float32 for w in weights(first.name).values())


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence(resident, pairs_file, monkeypatch):
    stock = transformers.Trainer.training_step

    def poisoned(self, *args, **kwargs):
        loss = stock(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step >= 2 else loss

    monkeypatch.setattr(transformers.Trainer, "training_step", poisoned)
    done = run(resident, request(pairs_file))
    assert done.status is RunStatus.FAILED
    assert done.reason.startswith("The loss was nan at step 3")
    assert done.name not in runs.list_adapters()
    resident.prove_base()


@pytest.mark.parametrize("text", ["CUDA out of memory. Tried to allocate", "MPS backend out of memory"])
def test_running_out_of_memory_says_what_to_lower(resident, pairs_file, monkeypatch, text):
    def full(*_, **__):
        raise RuntimeError(text)

    monkeypatch.setattr("core.trainer.train", full)
    done = run(resident, request(pairs_file))
    assert done.status is RunStatus.FAILED
    assert "Lower the batch size or max length" in done.reason
    answer = generate.answer(resident, [Turn(BASE, ask("Hello"))], Decoding(max_new_tokens=2))
    assert answer[0].num_tokens > 0


def test_what_cannot_run_is_refused_before_anything_is_made(resident, pairs_file):
    for changes, kind, words in [
        ({"settings": {"beta": 7}}, SettingError, "Beta must be a number from 0.01 to 1, not '7'."),
        ({"settings": {"betas": 7}}, SettingError, "There is no setting named 'betas'."),
        ({"method": "ppo"}, SettingError, "Method must be one of sft, dpo, sft+dpo, not 'ppo'."),
        ({"from_adapter": "gone"}, AdapterError, "No adapter named 'gone'. There are: none yet."),
        ({"run": "../up"}, RequestError, "'../up' is not a usable name for a run"),
    ]:
        with pytest.raises(kind, match=r".*") as error:
            run_request.prepare(resident, *run_request.check(request(pairs_file, **changes)))
        assert words in str(error.value)
    with pytest.raises(DataError):
        run_request.check(dataclasses.replace(request(pairs_file), dataset=""))
    assert runs.list_runs() == []


def test_a_max_length_that_leaves_nothing_is_refused_before_anything_is_made(resident, pairs_file):
    pairs_file.write_text(pairs_file.read_text().replace("Human:", f"Human:{' Think hard.' * 20}"))
    with pytest.raises(DataError) as error:
        run_request.prepare(resident, *run_request.check(request(pairs_file, settings={"max_length": 32})))
    assert str(error.value) == (
        "0 rows can be trained on at a max length of 32, and 8 are needed. Raise max length, or take other data."
    )
    assert runs.list_runs() == []


def test_a_run_goes_on_only_on_its_own_base_and_data(resident, tiny_mistral_dir, pairs_file):
    prepared = run_request.prepare(resident, *run_request.check(request(pairs_file)))
    with pytest.raises(ModelError, match="This run was started on"):
        run_work.read(ResidentModel(tiny_mistral_dir, CPU), paths.run_dir(prepared.name))
    snapshot = paths.run_dir(prepared.name) / run_request.DATA_FILE
    snapshot.write_text(snapshot.read_text()[::-1].replace(".", "!", 1)[::-1])
    done = runner.execute(resident, prepared.name, run_progress.Control())
    assert done.reason == "The run's data has changed since it was started. Start a new run."


def test_a_run_repeats_from_its_own_configuration(resident, pairs_file):
    first = run(resident, request(pairs_file))
    config = str(paths.run_dir(first.name) / "run.yaml")
    again = run(resident, RunRequest(config=config))
    assert same(weights(first.name), weights(again.name))


def test_a_run_repeats_to_the_bit_though_the_adapter_that_it_starts_from_was_renamed(resident, pairs_file):
    parent = run(resident, request(pairs_file, "sft", run="parent", settings={"learning_rate": 1e-2}))
    first = run(resident, request(pairs_file, from_adapter=parent.name, split_seed=3, pinned=("Where is the tea?",)))
    history.rename("parent", "elder")
    config = paths.run_dir(first.name) / "run.yaml"
    again = run(resident, RunRequest(config=str(config)))
    assert again.status is RunStatus.FINISHED, again.reason
    assert same(weights(first.name), weights(again.name))
    assert history.differences([first.name, again.name]) == []
    assert adapters.verify(adapters.find("elder")).modules
    card = (runs.adapter_dir(again.name) / "README.md").read_text()
    assert "from the adapter `elder` on" in card
