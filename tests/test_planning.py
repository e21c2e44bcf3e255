"""The plan says what the run will do, and the cards what fits, before a byte is downloaded."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core import (
    catalogue,
    device,
    estimate,
    forecast,
    loader,
    paths,
    planning,
    probe,
    run_progress,
    run_request,
    runner,
)
from core.client import RunPlan, RunRequest
from core.errors import DataError, ModelError, SettingError
from core.estimate import Shape
from core.forecast import Costs
from core.loader import ResidentModel
from core.planning import Planner
from core.recipes import MISTRAL
from core.runs import RunStatus
from core.settings import Method, Settings, Size

FAST = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4, "accumulation": 2, "lora_rank": 4, "max_length": 256}
GIB = 1024**3


def request(dataset: object, **changes) -> RunRequest:
    settings = {**FAST, **changes.pop("settings", {})}
    return RunRequest(**{"method": "dpo", "dataset": str(dataset), "settings": settings, **changes})


# The plan and the run


def mixed_file(folder: Path, longest: int = 60) -> Path:
    """Rows of many lengths, some unusable, some that share a first turn."""
    rows = []
    for n in range(60):
        question = f"\n\nHuman: Where is box {n % 55}?{' Think hard.' * (n % longest)}\n\nAssistant:"
        rows.append({"chosen": f"{question} In room {n}.", "rejected": f"{question} Who knows where box {n} is?"})
    rows[3]["rejected"] = rows[3]["chosen"]
    path = folder / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{not json\n")
    return path


@pytest.mark.parametrize(
    ("method", "changes", "settings"),
    [
        ("dpo", {}, {}),
        ("sft", {"limit": 30, "held_out": 5}, {"epochs": 2, "batch_size": 3}),
        ("dpo", {"held_out": 0}, {"max_length": 320, "batch_size": 1}),
    ],
)
def test_the_plan_is_what_the_run_then_does(resident, tmp_path, method, changes, settings):
    asked = request(mixed_file(tmp_path), method=method, settings=settings, **changes)
    plan = Planner().plan(resident, asked)
    done = runner.execute(
        resident, run_request.prepare(resident, *run_request.check(asked)).name, run_progress.Control()
    )
    assert done.status is RunStatus.FINISHED, done.reason
    assert (plan.pairs, plan.held_out, plan.steps) == (done.result["pairs"], done.result["held_out"], done.steps)
    assert {k: v for k, v in plan.left_out.items() if v} == done.result["left_out"]
    assert sum(plan.left_out.values()) == done.result["num_left_out"] > 0
    assert plan.cut_replies == done.facts["cut_replies"]
    assert plan.batch == asked.settings["batch_size"] * 2
    assert plan.duration_s > 0
    assert plan.memory_bytes > resident.memory_bytes
    assert plan.download_bytes == 0
    for figure in (plan.pairs, plan.held_out, sum(plan.left_out.values()), plan.steps):
        assert str(figure) in plan.sentence


def test_the_plan_of_the_tiny_pairs_in_words(resident, pairs_file):
    assert Planner().plan(resident, request(pairs_file)).sentence == (
        "DPO on 30 pairs from pairs.jsonl, 10 held out, none left out. LoRA of rank 4, 4 steps of 8 pairs."
    )


def test_a_plan_refuses_what_the_run_would_refuse(resident, tmp_path, pairs_file):
    short = tmp_path / "short.jsonl"
    short.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:3]))
    for asked, kind in [
        (request(pairs_file, settings={"beta": 7}), SettingError),
        (request(pairs_file, method="ppo"), SettingError),
        (request(""), DataError),
        (request(tmp_path / "gone.jsonl"), DataError),
        (request(short), DataError),
    ]:
        with pytest.raises(kind) as planned:
            Planner().plan(resident, asked)
        with pytest.raises(kind) as started:
            run_request.prepare(resident, *run_request.check(asked))
        assert str(planned.value) == str(started.value)


def test_rows_that_are_all_too_long_are_refused_before_the_start(resident, tmp_path):
    question = "\n\nHuman: Where is the lamp? Think very hard before you answer that question.\n\nAssistant:"
    rows = [{"chosen": f"{question} In room {n}.", "rejected": f"{question} Who knows {n}?"} for n in range(20)]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = request(path, settings={"max_length": 32}, held_out=0)
    with pytest.raises(DataError) as error:
        Planner().plan(resident, asked)
    assert str(error.value) == (
        "0 rows can be trained on at a max length of 32, and 8 are needed. Raise max length, or take other data."
    )


def test_a_plan_costs_its_data_only_once_and_sees_a_changed_file(resident, pairs_file, monkeypatch):
    planner = Planner()
    first = planner.plan(resident, request(pairs_file))
    with monkeypatch.context() as patch:
        patch.setattr(run_request, "read_data", lambda *_: pytest.fail("read again"))
        assert planner.plan(resident, request(pairs_file, settings={"epochs": 2})).steps == 2 * first.steps
    pairs_file.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:20]))
    assert planner.plan(resident, request(pairs_file)).pairs == 15


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[ResidentModel]:
    """The models that were timed; each step takes half a second and more, whatever goes on beside the test."""
    found: list[ResidentModel] = []
    costs = Costs(forecast.Line(0.01, 0.0001), forecast.Line(0.5, 0.0005))
    monkeypatch.setattr(probe, "costs", lambda resident, between: found.append(resident) or costs)
    return found


def test_more_work_takes_longer_and_more_memory(resident, pairs_file, timed):
    planner = Planner()

    def planned(**settings) -> RunPlan:
        return planner.plan(resident, request(pairs_file, settings={"looks": 0, **settings}))

    plan, longer = planned(), planned(epochs=3)
    assert longer.duration_s > 1.5 * plan.duration_s
    assert longer.memory_bytes == plan.memory_bytes
    wider, saving = planned(batch_size=16), planned(batch_size=16, gradient_checkpointing=True)
    assert wider.memory_bytes > saving.memory_bytes > plan.memory_bytes
    assert planned(looks=5).duration_s > plan.duration_s


def test_memory_comes_by_its_parts(resident, pairs_file):
    plan = Planner().plan(resident, request(pairs_file))
    assert list(plan.parts) == ["weights", "adapter", "optimiser", "activations", "logits", "process"]
    assert sum(plan.parts.values()) == plan.memory_bytes
    assert plan.parts["weights"] == resident.memory_bytes
    wide = Planner().plan(resident, request(pairs_file, settings={"lora_rank": 8}))
    assert (wide.parts["adapter"], wide.parts["optimiser"]) == (2 * plan.parts["adapter"], 2 * plan.parts["optimiser"])


def test_two_runs_take_the_time_of_both_and_the_memory_of_the_larger(resident, pairs_file, timed):
    planner = Planner()
    both = planner.plan(resident, request(pairs_file, method="sft+dpo", settings={"sft_epochs": 2, "looks": 0}))
    first = planner.plan(resident, request(pairs_file, method="sft", settings={"epochs": 2, "looks": 0}))
    second = planner.plan(resident, request(pairs_file, settings={"looks": 0}))
    assert (first.steps, second.steps, both.steps) == (8, 4, 12)
    # The second is measured against the first too.
    assert first.duration_s + second.duration_s < both.duration_s < 1.5 * (first.duration_s + second.duration_s)
    assert both.memory_bytes == second.memory_bytes > first.memory_bytes
    assert both.sentence.startswith("SFT+DPO on 30 pairs from pairs.jsonl, 10 held out, none left out.")
    repeated = replace(request(pairs_file, method="sft", settings={"epochs": 2, "looks": 0}), then={**FAST, "looks": 0})
    assert planner.plan(resident, repeated).steps == 12


def test_this_machine_is_timed_once_and_never_beside_a_run(resident, pairs_file, timed):
    planner = Planner()
    beside = planner.plan(resident, request(pairs_file), is_training=True)
    assert (beside.duration_s, beside.pairs, timed) == (None, 30, [])
    known = planner.plan(resident, request(pairs_file))
    planner.plan(resident, request(pairs_file, method="sft"))
    assert planner.plan(resident, request(pairs_file), is_training=True).duration_s == known.duration_s
    assert timed == [resident]


def test_what_will_not_fit_comes_with_what_does(resident, pairs_file, monkeypatch):
    asked = request(pairs_file, settings={"batch_size": 16, "max_length": 512})
    needed = Planner().plan(resident, asked).memory_bytes
    smaller = Planner().plan(resident, request(pairs_file, settings={"batch_size": 4, "max_length": 512})).memory_bytes
    monkeypatch.setattr(device, "memory_limit", lambda kind: (needed + smaller) // 2)
    plan = Planner().plan(resident, asked)
    assert plan.fit == "won't fit"
    assert plan.fix == {"batch_size": 8, "accumulation": 4}
    fixed = Planner().plan(resident, request(pairs_file, settings={"max_length": 512, **plan.fix}))
    assert (fixed.fit, fixed.batch) == ("tight", plan.batch)
    said = f"Lower the batch size from 16 to 8: then it needs {fixed.memory_bytes / 1e9:.1f} GB."
    assert plan.fix_words == said


def test_where_nothing_fits_a_smaller_base_is_named(resident, pairs_file, tiny_model_dir, monkeypatch):
    shutil.copytree(tiny_model_dir, paths.base_dir() / "small")
    monkeypatch.setattr(device, "memory_limit", lambda kind: 10**8)
    plan = Planner().plan(resident, request(pairs_file))
    assert (plan.fit, plan.fix) == ("won't fit", {})
    assert plan.fix_words == (
        "Neither a smaller batch, nor gradient checkpointing, nor a shorter max length makes it fit."
    )
    monkeypatch.setattr(device, "memory_limit", lambda kind: 2 * 10**9)
    plan = Planner().plan(resident, request("starter", model=MISTRAL))
    assert plan.fix_words == (
        "Neither a smaller batch, nor gradient checkpointing, nor a shorter max length makes it fit. Choose a smaller "
        "base: small fits."
    )


def test_data_without_rejected_replies_is_refused_for_dpo_as_starting_it_would(resident, tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Box {n}?", "chosen": f"Room {n}."}) + "\n" for n in range(20)))
    planner = Planner()
    assert planner.plan(resident, request(path, method="sft")).pairs == 15
    for asked in (request(path), request(path, method="sft+dpo"), replace(request(path, method="sft"), then=FAST)):
        with pytest.raises(DataError) as planned:
            planner.plan(resident, asked)
        with pytest.raises(DataError) as started:
            run_request.check(asked)
        assert str(planned.value) == str(started.value)


@pytest.mark.parametrize(("source", "pairs"), [("starter@20", 15), ("{file}@20+starter@20", 30)])
def test_parts_of_what_is_here_are_counted_exactly(resident, pairs_file, source, pairs):
    asked = request(source.format(file=pairs_file), settings={"max_length": 2048})
    plan = Planner().plan(resident, asked)
    assert plan.pairs == pairs
    assert len(run_request.read_data(asked.dataset, asked).train) == pairs


# Never a download


@pytest.mark.parametrize(
    "asked",
    [
        request("Anthropic/hh-rlhf:helpful-base@500+Anthropic/hh-rlhf:harmless-base@500"),
        request("Anthropic/hh-rlhf", model=MISTRAL),
        request("starter", model=MISTRAL),
    ],
)
def test_a_preview_downloads_nothing(resident, looked_up_hosts, asked):
    plan = Planner().plan(resident, asked)
    assert looked_up_hosts == []
    # What lies here can be counted without the base's tokenizer.
    assert plan.sentence.startswith(f"DPO on up to {'120' if asked.dataset == 'starter' else '1,000'} pairs from ")
    assert plan.left_out == {}
    assert sum(plan.parts.values()) == plan.memory_bytes
    is_mistral = asked.model == MISTRAL
    assert plan.download_bytes == (14_496_047_104 if is_mistral else 0)
    assert (plan.memory_bytes or 0) > (14.5e9 if is_mistral else -1)


def test_a_base_of_the_hub_is_asked_for_once_and_its_size_is_told(resident, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(catalogue, "_ask_hub", lambda name, token: asked.append(name) or 3_000_000_000)
    planner = Planner()
    for epochs in (1, 2):
        plan = planner.plan(resident, request("starter", model="owner/some-model", settings={"epochs": epochs}))
        assert plan.download_bytes == 3_000_000_000
    assert asked == ["owner/some-model"]


def test_a_preview_of_what_could_not_be_started_is_the_sentence_that_starting_it_would_say(resident, tmp_path):
    for model, sentence in [
        ("no such model", "There is no model 'no such model': it is neither the starter, nor a folder, nor a Hub id"),
        (str(tmp_path), f"{tmp_path} is not a model: it has no readable config.json."),
        ("owner/some-model", "owner/some-model is not on this machine and the Hub cannot be reached. Connect to the"),
    ]:
        with pytest.raises(ModelError) as planned:
            Planner().plan(resident, request("starter", model=model))
        assert str(planned.value).startswith(sentence)


def test_the_cards_download_nothing(looked_up_hosts):
    paths.ensure_home()
    cards = Planner().cards()
    assert [card.name for card in cards] == [paths.STARTER_NAME, MISTRAL]
    assert cards[0].sentence.startswith("A download of 0.5 GB. ")
    assert cards[1].sentence.startswith("A download of 14.5 GB. Training takes at least ")
    assert looked_up_hosts == []


def test_one_damaged_base_does_not_hide_the_others(tiny_model_dir):
    paths.ensure_home()
    for name in ("good", "bad"):
        shutil.copytree(tiny_model_dir, paths.base_dir() / name)
    (paths.base_dir() / "bad" / "model.safetensors").write_bytes(b"\xff" * 40)
    cards = {card.name: card for card in Planner().cards()}
    assert cards["good"].fit == "fits"
    assert cards["good"].num_parameters > 0
    assert cards["bad"].fit == "unknown"
    assert cards["bad"].sentence == (
        "model.safetensors is damaged: it is not a whole safetensors file. Download it again."
    )


# Mistral on Macs: the largest memory that a Mac of this size gives to its GPU, in GiB


@pytest.mark.parametrize(("limit", "fit"), [(10.7, "won't fit"), (16, "tight"), (21.3, "fits"), (48, "fits")])
def test_mistral_on_a_mac(monkeypatch, limit, fit):
    paths.ensure_home()
    monkeypatch.setattr(device, "best_kind", lambda: "mps")
    monkeypatch.setattr(device, "self_test", lambda kind, dtype: set())
    monkeypatch.setattr(device.platform, "mac_ver", lambda: ("15.0", ("", "", ""), "arm64"))
    monkeypatch.setattr(device, "memory_limit", lambda kind: int(limit * GIB))
    card = next(card for card in Planner().cards() if card.name == MISTRAL)
    assert card.fit == fit
    needed = planning._base_needs(MISTRAL)
    assert 14.496e9 + 0.67e9 < needed < 17e9
    assert card.sentence == (
        f"A download of 14.5 GB. Training takes at least {needed / 1e9:.1f} GB of the {limit * GIB / 1e9:.1f} GB "
        "there are."
    )


@pytest.fixture(scope="module")
def mistral():
    """Mistral-7B-Instruct-v0.3 by its published shapes, without a byte of weights."""
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=32768, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=32768, rope_theta=1e6, sliding_window=None,
        tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        return MistralForCausalLM(config)


def test_mistrals_figures_are_those_of_its_shapes(mistral):
    known = catalogue.KNOWN[MISTRAL]
    num_parameters = sum(p.numel() for p in mistral.parameters())
    assert known.num_parameters == num_parameters == 7_248_023_552
    assert known.size_bytes == pytest.approx(2 * num_parameters, rel=1e-4)
    here = Shape.of(mistral.config.to_dict(), num_parameters, 2)
    assert Shape.of(planning.MISTRAL_CONFIG, num_parameters, 2) == here


def test_a_lora_on_all_linear_layers_of_mistral(mistral):
    resident = ResidentModel.__new__(ResidentModel)
    resident._shapes = loader._linear_shapes(mistral)
    settings = Settings.of(Method.DPO, Size.LARGE)
    assert (settings.lora_rank, settings.target_modules) == (16, "all-linear")
    assert run_request.num_trainable(resident, settings) == 41_943_040
    attention = replace(settings, target_modules="attention")
    assert run_request.num_trainable(resident, attention) == 13_631_488
    shape = Shape.of(planning.MISTRAL_CONFIG, 0, 2)
    for chosen in (settings, attention):
        assert estimate.num_trainable(shape, chosen) == run_request.num_trainable(resident, chosen)
