"""The resident model keeps its word: the base stays the base, and no adapter that could lie ever answers."""

import contextlib
import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core import adapters, base_files, catalogue, inspection, loader, paths
from core.client import Turn
from core.device import Device
from core.errors import AdapterError, ModelError, OutOfMemory, PlaygroundError
from core.generate import answer
from core.loader import BASE, POLICY, ResidentModel
from core.messages import ask
from core.settings import Decoding, Method, Settings, Size
from tests.make_adapter import edit_config, make_adapter, unsealed

CPU = Device("cpu", torch.float32, "sdpa", "for tests")
GREEDY = Decoding(max_new_tokens=8, temperature=0.0)


@pytest.fixture(autouse=True)
def no_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage takes longer than all the rest."""
    monkeypatch.setattr(loader, "release", lambda kind: None)


@pytest.fixture
def resident(tiny_model_dir: Path) -> ResidentModel:
    paths.ensure_home()
    return ResidentModel(tiny_model_dir, CPU)


def says(resident: ResidentModel, contender: str, prompt: str = "Where is the lamp?") -> str:
    return answer(resident, [Turn(contender, ask(prompt))], GREEDY)[0].text


def policy_settings(**values: object) -> Settings:
    return Settings.of(Method.DPO, Size.SMALL, {"lora_rank": 4, **values})


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / adapters.WEIGHTS)
    weights = change(weights) or weights
    save_file(weights, folder / adapters.WEIGHTS)


# Coming and going


def test_attaching_and_detaching_leaves_every_bit_of_the_base(resident):
    before, plain = resident._probe_logits(BASE), set(dict(resident.model.named_modules()))
    for name, seed in (("one", 1), ("two", 2)):
        make_adapter(resident, name, seed)
        resident.attach(name)
    assert not torch.equal(resident._probe_logits("one"), resident._probe_logits("two"))
    assert torch.equal(resident._probe_logits(BASE), before)
    for name in ("one", "two"):
        resident.detach(name)
    assert torch.equal(resident._probe_logits(BASE), before)
    assert set(dict(resident.model.named_modules())) == plain
    assert resident.peft is None
    assert not any(p.requires_grad for p in resident.model.parameters())


def test_after_the_last_adapter_went_a_new_one_can_come(resident):
    make_adapter(resident, "one")
    resident.attach("one")
    first = says(resident, "one")
    resident.detach("one")
    resident.attach("one")
    assert says(resident, "one") == first


def test_a_mixed_batch_says_what_each_says_alone(resident):
    for name, seed in (("one", 1), ("two", 2)):
        make_adapter(resident, name, seed)
        resident.attach(name)
    prompts = ["Where is the lamp?", "How many apples are left in the bowl, and who ate the others?", "Hi"]
    turns = [Turn(c, ask(p)) for p in prompts for c in (BASE, "one", "two")]
    together = [response.text for response in answer(resident, turns, GREEDY)]
    assert together == [answer(resident, [turn], GREEDY)[0].text for turn in turns]
    assert len({together[0], together[1], together[2]}) == 3


def test_adapters_on_different_layers_do_not_leak_into_each_other(resident):
    make_adapter(resident, "narrow", 1, target_modules="attention")
    make_adapter(resident, "wide", 2)
    resident.attach("narrow")
    alone = resident._probe_logits("narrow")
    resident.attach("wide")
    assert torch.equal(resident._probe_logits("narrow"), alone)
    together = answer(resident, [Turn(c, ask("Hi")) for c in (BASE, "narrow", "wide")], GREEDY)
    assert [r.text for r in together] == [says(resident, c, "Hi") for c in (BASE, "narrow", "wide")]


def test_an_adapter_made_anew_under_the_same_name_takes_the_old_ones_place(resident):
    make_adapter(resident, "one", 1)
    resident.attach("one")
    old = resident._probe_logits("one")
    make_adapter(resident, "one", 2)
    resident.attach("one")
    assert not torch.equal(resident._probe_logits("one"), old)
    assert resident.adapters == ("one",)
    assert len(resident.peft.peft_config) == 1


def test_a_newer_adapter_that_must_not_answer_leaves_the_older_one_answering(resident):
    make_adapter(resident, "one", 1)
    resident.attach("one")
    old = resident._probe_logits("one")
    make_adapter(resident, "one", 2, scale=0.0)
    with pytest.raises(AdapterError, match="changes nothing"):
        resident.attach("one")
    assert torch.equal(resident._probe_logits("one"), old)


def test_an_adapter_whose_folder_is_gone_goes_on_answering(resident):
    folder = make_adapter(resident, "one")
    resident.attach("one")
    before = says(resident, "one")
    shutil.rmtree(folder.parent)
    assert says(resident, "one") == before
    with pytest.raises(AdapterError, match="No adapter named 'one'. There are: none yet."):
        resident.attach("one")
    assert says(resident, "one") == before


def test_who_is_not_attached_cannot_be_asked(resident):
    with pytest.raises(AdapterError, match="The adapter 'ghost' is not loaded. Choose it again."):
        says(resident, "ghost")


# Refusals


def test_an_adapter_that_changes_nothing_is_refused_and_all_is_as_before(resident):
    make_adapter(resident, "idle", scale=0.0)
    with pytest.raises(AdapterError) as error:
        resident.attach("idle")
    assert str(error.value) == "The adapter 'idle' changes nothing: it answers exactly as the base does."
    assert resident.adapters == ()
    assert resident.peft is None
    resident.prove_base()


@pytest.fixture
def sister_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A base of the same shapes with other weights."""
    folder = tmp_path / "sister"
    shutil.copytree(tiny_model_dir, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({k: v * 1.01 for k, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_an_adapter_of_another_base_of_the_same_shape_is_refused(resident, sister_dir):
    make_adapter(ResidentModel(sister_dir, CPU), "cousin")
    with pytest.raises(AdapterError) as error:
        resident.attach("cousin")
    assert str(error.value) == (
        "The adapter 'cousin' was trained on sister, and tiny-llama is loaded. Choose that base first."
    )


def poison(weights):
    next(iter(weights.values()))[0, 0] = float("nan")


def rename(old: str, new: str):
    return lambda weights: {key.replace(old, new): value for key, value in weights.items()}


def without_one(weights):
    weights.pop(next(key for key in weights if "lora_A" in key))


def shorter(weights):
    key = next(key for key in weights if "lora_B" in key)
    weights[key] = weights[key][:-1].clone()


def as_whole_numbers(weights):
    return {key: value.to(torch.int32) for key, value in weights.items()}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (poison, "holds numbers that are not finite in 'base_model.model.model.layers.0.mlp.down_proj.lora_A.weight'."),
        (rename("q_proj", "z_proj"), "was trained on another base: it has a weight for 'model.layers.0.self_attn.z"),
        (rename("lora_A", "lora_C"), "which is no plain LoRA weight."),
        (shorter, "was trained on another base: it has a weight for"),
        (without_one, "is incomplete: "),
        (as_whole_numbers, "which is no plain LoRA weight."),
        (lambda weights: {"x": torch.zeros(1)}, "holds 'x', which is no plain LoRA weight."),
    ],
)
def test_weights_that_are_not_what_they_should_be_are_refused(resident, change, sentence):
    make_adapter(resident, "good", 1)
    resident.attach("good")
    before = says(resident, "good")
    folder = unsealed(make_adapter(resident, "bad", 2))
    edit_weights(folder, change)
    with pytest.raises(AdapterError, match="The adapter 'bad'") as error:
        resident.attach("bad")
    assert sentence in str(error.value)
    assert resident.adapters == ("good",)
    assert says(resident, "good") == before
    resident.prove_base()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"r": 5}, "says that its rank is 5, and"),
        ({"r": 10**9}, "has the rank 1000000000; 1 to 1024 is supported."),
        ({"r": -1}, "has the rank -1; 1 to 1024 is supported."),
        ({"r": "four"}, "has the rank four; 1 to 1024 is supported."),
        ({"lora_alpha": float("nan")}, "has the alpha nan; a positive number is needed."),
        ({"lora_alpha": None}, "has the alpha None; a positive number is needed."),
        ({"lora_dropout": "all"}, "has the dropout all; 0 to 1 is possible."),
        ({"modules_to_save": ["lm_head"]}, "uses 'modules_to_save', and only plain LoRA is supported."),
        ({"use_dora": True}, "uses 'use_dora', and only plain LoRA is supported."),
        ({"auto_mapping": {"parent_library": "os"}}, "uses 'auto_mapping', and only plain LoRA is supported."),
        ({"megatron_config": {"a": 1}}, "uses 'megatron_config', and only plain LoRA is supported."),
        ({"eva_config": {"rho": 2}}, "uses 'eva_config', and only plain LoRA is supported."),
        ({"bias": "all"}, "uses 'bias', and only plain LoRA is supported."),
        ({"init_lora_weights": "corda"}, "uses 'init_lora_weights', and only plain LoRA is supported."),
        ({"peft_type": "PREFIX_TUNING"}, "uses 'peft_type', and only plain LoRA is supported."),
        ({"rank_pattern": {"q_proj": 2}}, "uses 'rank_pattern', and only plain LoRA is supported."),
        ({"brand_new_key": 1}, "uses 'brand_new_key', and only plain LoRA is supported."),
    ],
)
def test_a_configuration_beyond_plain_lora_is_refused_by_name(resident, changes, words):
    edit_config(unsealed(make_adapter(resident, "odd")), **changes)
    with pytest.raises(AdapterError) as error:
        resident.attach("odd")
    assert str(error.value).startswith(f"The adapter 'odd' {words}")
    assert resident.peft is None


def test_nothing_in_an_adapters_configuration_is_followed(resident, looked_up_hosts):
    folder = unsealed(make_adapter(resident, "odd"))
    edit_config(
        folder,
        base_model_name_or_path="evil/tiny-llama",
        revision="x",
        target_modules="(((.*)*)*)*$",
        task_type="CAUSAL_LM",
    )
    resident.attach("odd")
    assert says(resident, "odd")
    assert looked_up_hosts == []


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


def empty(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, flip, empty])
@pytest.mark.parametrize("file", [adapters.WEIGHTS, adapters.CONFIG, adapters.MANIFEST, "README.md"])
def test_a_damaged_file_is_found_before_it_is_loaded_and_others_go_on(resident, file, damage):
    make_adapter(resident, "good", 1)
    resident.attach("good")
    before = says(resident, "good")
    path = make_adapter(resident, "bad", 2) / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AdapterError) as error:
        resident.attach("bad")
    assert str(error.value) == f"The adapter 'bad' is damaged: {file} is not as it was written."
    assert says(resident, "good") == before


def test_every_single_bit_of_a_manifest_counts(resident):
    path = make_adapter(resident, "one") / adapters.MANIFEST
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        with pytest.raises(AdapterError):
            adapters.verify(path.parent)
    path.write_bytes(whole)
    adapters.verify(path.parent)


@pytest.mark.parametrize("damage", [cut, empty, lambda data: b"\xff" * 8 + data[8:]])
def test_a_damaged_file_without_hashes_is_found_too(resident, damage):
    path = unsealed(make_adapter(resident, "bad")) / adapters.WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AdapterError) as error:
        resident.attach("bad")
    assert str(error.value) == (
        "The adapter 'bad' is damaged: adapter_model.safetensors is not a whole safetensors file."
    )


def test_a_pickled_adapter_is_never_opened(resident, tmp_path):
    folder = unsealed(make_adapter(resident, "bad"))
    (folder / adapters.WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="has no adapter_model.safetensors. Only safetensors files are loaded."):
        resident.attach("bad")


@pytest.mark.parametrize("step", ["add", "weights", "probe"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_load_that_fails_half_way_leaves_nothing_behind(resident, monkeypatch, step, is_first):
    if not is_first:
        make_adapter(resident, "good", 1)
        resident.attach("good")
    make_adapter(resident, "bad", 2)
    before = says(resident, "good" if not is_first else BASE)
    modules = set(dict(resident.model.named_modules()))
    calls = 0

    def full(*_, **__):
        nonlocal calls
        calls += 1
        if calls >= 4 or step != "add":
            raise RuntimeError("out of memory")
        return stock(*_, **__)

    stock = torch.nn.Linear.reset_parameters
    target = {"add": (torch.nn.Linear, "reset_parameters"), "weights": (loader, "set_peft_model_state_dict")}
    where, what = target.get(step, (resident, "prove_base"))
    with monkeypatch.context() as patch:
        patch.setattr(where, what, full)
        with pytest.raises(RuntimeError):
            resident.attach("bad")
    assert "bad" not in resident.adapters
    assert says(resident, "good" if not is_first else BASE) == before
    assert set(dict(resident.model.named_modules())) == modules
    resident.attach("bad")
    assert says(resident, "bad") != before


# Beside a run


def test_an_adapter_that_comes_and_goes_during_training_changes_nothing_of_the_policy(resident):
    make_adapter(resident, "wide", 2)
    resident.open_policy(policy_settings(target_modules="attention", lora_dropout=0.1))
    resident.model.train()
    ids = resident._probe_ids

    def step() -> torch.Tensor:
        with torch.random.fork_rng():
            return resident.model(input_ids=ids, use_cache=False).logits.detach()

    trained = {n for n, p in resident.model.named_parameters() if p.requires_grad}
    before, drawn = step(), torch.get_rng_state()
    resident.attach("wide")
    assert resident.model.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert {n for n, p in resident.model.named_parameters() if p.requires_grad} == trained
    assert torch.equal(step(), before)
    assert says(resident, "wide") != says(resident, BASE)
    resident.detach("wide")
    assert torch.equal(step(), before)
    assert {n for n, p in resident.model.named_parameters() if p.requires_grad} == trained
    assert all(f".{POLICY}." in name for name in trained)


def test_after_training_nothing_is_trainable_and_nobody_speaks_unasked(resident):
    make_adapter(resident, "one")
    resident.attach("one")
    resident.open_policy(policy_settings())
    resident.close_policy()
    assert not any(p.requires_grad for p in resident.model.parameters())
    at_rest = resident.model(input_ids=resident._probe_ids, use_cache=False).logits[0, -4:]
    assert torch.equal(at_rest, resident._probe)


@pytest.mark.parametrize("is_training", [True, False])
def test_an_error_while_somebody_speaks_puts_everything_back(resident, is_training):
    for name, seed in (("one", 1), ("two", 2)):
        make_adapter(resident, name, seed)
        resident.attach(name)
    resident.open_policy(policy_settings())
    resident.model.train(is_training)

    def state():
        layers = [(list(layer.active_adapters), dict(layer.scaling)) for layer in resident._layers]
        return layers, resident.model.training, [p.requires_grad for p in resident.model.parameters()]

    before = state()
    with contextlib.suppress(ZeroDivisionError), resident.speaking([BASE, "one", "two"]):
        assert not resident.model.training
        raise ZeroDivisionError
    assert state() == before
    assert all(isinstance(s, float) for layers in before[0] for s in layers[1].values())
    with pytest.raises(AdapterError), resident.speaking(["one", "ghost"]):
        pass
    assert state() == before


def test_a_base_that_has_changed_is_never_passed_off_as_the_base(resident):
    with torch.no_grad():
        next(resident.model.parameters())[7] += 0.5
    with pytest.raises(PlaygroundError, match="The base model in memory has changed"):
        resident.prove_base()


# Bases


@pytest.fixture
def copy_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_model_dir, folder)
    return folder


def refusal(folder: Path) -> str:
    paths.ensure_home()
    with pytest.raises(ModelError) as error:
        ResidentModel(folder, CPU)
    return str(error.value)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_without_config_is_no_model(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path} is not a model: it has no readable config.json."


def test_a_base_with_missing_layers_is_refused(copy_dir):
    edit_json(copy_dir / "config.json", num_hidden_layers=4)
    assert refusal(copy_dir).startswith("copy is incomplete: 18 weights are missing, 'model.layers.2.")


def test_a_base_of_other_shapes_than_it_says_is_refused(copy_dir):
    edit_json(copy_dir / "config.json", intermediate_size=64)
    assert refusal(copy_dir).startswith("copy ")


@pytest.mark.parametrize("damage", [empty, lambda data: b"\xff" * 8 + data[8:]])
def test_a_damaged_base_cannot_be_counted(copy_dir, damage):
    path = copy_dir / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match="model.safetensors is damaged"):
        catalogue.num_parameters(copy_dir)


@pytest.mark.parametrize("value", ["abc", None, -1, {"a": 1}])
def test_a_config_that_makes_no_sense_is_a_sentence(copy_dir, value):
    edit_json(copy_dir / "config.json", hidden_size=value)
    assert refusal(copy_dir).startswith("copy ")


def test_pickled_weights_are_never_opened(copy_dir, tmp_path):
    (copy_dir / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, copy_dir / "pytorch_model.bin")
    assert refusal(copy_dir) == "copy has no safetensors files, and no other kind of weights is loaded."


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_base_that_brings_code_is_refused(copy_dir, file):
    edit_json(copy_dir / file, auto_map={"AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.T", None]})
    assert refusal(copy_dir) == "copy needs code of its own to run, which is not supported. Take another model."


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_config_that_names_kernels_of_a_repository_is_refused(copy_dir, key, looked_up_hosts):
    edit_json(copy_dir / "config.json", **{key: "evil/kernels"})
    assert refusal(copy_dir) == "copy needs code of its own to run, which is not supported. Take another model."
    edit_json(copy_dir / "config.json", **{key: "sdpa", "text_config": {key: "evil/kernels"}})
    assert refusal(copy_dir) == "copy needs code of its own to run, which is not supported. Take another model."
    assert looked_up_hosts == []


def test_the_attention_is_the_devices_whatever_the_config_says(copy_dir):
    paths.ensure_home()
    edit_json(copy_dir / "config.json", attn_implementation="eager")
    assert ResidentModel(copy_dir, CPU).model.config._attn_implementation == "sdpa"


def test_an_adapter_is_not_taken_for_a_base(resident, copy_dir):
    folder = make_adapter(resident, "one")
    shutil.copy(folder / adapters.CONFIG, copy_dir)
    assert refusal(copy_dir) == (f"{copy_dir} is an adapter, not a base model. Choose the base that it was trained on.")


def test_a_tokenizer_larger_than_the_embeddings_is_refused(copy_dir):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copy_dir, local_files_only=True)
    size = len(tokenizer)
    tokenizer.add_tokens(["<new1>", "<new2>"])
    tokenizer.save_pretrained(copy_dir)
    assert refusal(copy_dir) == (f"copy cannot be used: its tokenizer has {size + 2} tokens, its weights only {size}.")


@pytest.mark.parametrize("damage", [cut, empty, lambda data: b"\xff" * 8 + data[8:]])
def test_a_damaged_base_is_refused(copy_dir, damage):
    path = copy_dir / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert refusal(copy_dir).startswith("model.safetensors is damaged: it ")


def test_a_base_that_computes_no_numbers_is_refused(copy_dir):
    weights = load_file(copy_dir / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, copy_dir / "model.safetensors", metadata={"format": "pt"})
    assert refusal(copy_dir) == "copy cannot be used: its answers are not finite numbers. Download it again."


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("MPS backend out of memory")])
def test_no_room_for_a_base_is_a_sentence(copy_dir, monkeypatch, error):
    def full(*_, **__):
        raise error

    paths.ensure_home()
    monkeypatch.setattr(base_files.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(OutOfMemory, match=r"^There is not enough memory to load copy: its weights take 0\.00 GB, and "):
        ResidentModel(copy_dir, CPU)


def test_a_consolidated_copy_of_the_weights_counts_for_nothing(resident, copy_dir):
    shutil.copy(copy_dir / "model.safetensors", copy_dir / "consolidated.safetensors")
    assert ResidentModel(copy_dir, CPU).fingerprint == resident.fingerprint
    assert catalogue.num_parameters(copy_dir) == resident.num_parameters


def test_a_base_is_the_same_base_however_its_weights_are_split(resident, copy_dir):
    weights = load_file(copy_dir / "model.safetensors")
    names = sorted(weights)
    index = {}
    for part, chosen in enumerate((names[::2], names[1::2])):
        file = f"model-0000{part + 1}-of-00002.safetensors"
        save_file({name: weights[name] for name in chosen}, copy_dir / file, metadata={"format": "pt"})
        index |= dict.fromkeys(chosen, file)
    (copy_dir / "model.safetensors").unlink()
    (copy_dir / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert ResidentModel(copy_dir, CPU).fingerprint == resident.fingerprint


def test_a_damaged_cache_of_fingerprints_is_made_anew(resident, tiny_model_dir):
    (paths.base_dir() / ".fingerprints.json").write_text('["what?"]')
    assert ResidentModel(tiny_model_dir, CPU).fingerprint == resident.fingerprint


def test_what_a_base_brings_of_its_own_does_not_change_how_it_is_asked(resident, copy_dir):
    edit_json(copy_dir / "generation_config.json", repetition_penalty=5.0, no_repeat_ngram_size=1, suppress_tokens=[9])
    assert says(ResidentModel(copy_dir, CPU), BASE) == says(resident, BASE)


# The check


def test_the_check_says_what_is_wrong_and_lets_the_adapter_speak_where_nothing_is(resident):
    folder = make_adapter(resident, "one")
    report = inspection.check(resident, "one")
    assert report.ok
    assert report.problems == []
    assert report.response
    path = folder / adapters.WEIGHTS
    path.write_bytes(flip(path.read_bytes()))
    report = inspection.check(resident, "one")
    assert report.problems == ["The adapter 'one' is damaged: adapter_model.safetensors is not as it was written."]
    with pytest.raises(AdapterError, match="No adapter named 'two'. There are: one."):
        inspection.check(resident, "two")


def test_a_closed_resident_model_gives_its_memory_back(resident):
    import weakref

    make_adapter(resident, "one")
    resident.attach("one")
    remembered = weakref.ref(resident.model)
    resident.__dict__.clear()
    gc.collect()
    assert remembered() is None


def test_an_adapter_with_dropout_answers_without_it(resident):
    make_adapter(resident, "dropping", lora_dropout=0.4)
    resident.attach("dropping")
    assert torch.equal(resident._probe_logits("dropping"), resident._probe_logits("dropping"))
    assert not any(module.training for module in resident.model.modules())
