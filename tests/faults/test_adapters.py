"""Adapters that are damaged, hostile or another base's: one sentence before PEFT sees them, and the others go on."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from core import adapters, loader, paths, runs
from core.device import Device
from core.errors import AdapterError, RequestError
from core.generate import answer
from core.loader import ResidentModel
from core.messages import ask
from core.settings import Decoding
from core.wire import Turn
from tests.faults.test_models import Payload
from tests.make_adapter import edit_config, make_adapter, unsealed

CPU = Device("cpu", torch.float32, "sdpa", "for tests")
GREEDY = Decoding(max_new_tokens=8, temperature=0.0)


def says(resident: ResidentModel, contender: str) -> str:
    return answer(resident, [Turn(contender, ask("Where is the lamp?"))], GREEDY)[0].text


def refusal(resident: ResidentModel, name: str) -> str:
    """Why it may not answer; whoever answered before does so still."""
    others = {other: says(resident, other) for other in ("base", *resident.adapters)}
    with pytest.raises(AdapterError) as error:
        resident.attach(name)
    assert {other: says(resident, other) for other in ("base", *resident.adapters)} == others
    assert name not in resident.adapters
    return str(error.value)


def test_035_an_adapter_in_a_pickle_is_refused_and_what_is_in_it_is_not_run(resident, tuned, tmp_path):
    folder, mark = unsealed(make_adapter(resident, "bad", 2)), tmp_path / "was-run"
    for name in ("adapter_model.bin", "adapter_model.pt", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Payload(mark)))
    resident.attach("bad")
    resident.detach("bad")
    (folder / adapters.WEIGHTS).unlink()
    assert refusal(resident, "bad") == (
        "The adapter 'bad' has no adapter_model.safetensors. Only safetensors files are loaded."
    )
    (folder / adapters.WEIGHTS).symlink_to(folder / "adapter_model.bin")
    assert "is damaged: adapter_model.safetensors is not a whole safetensors file." in refusal(resident, "bad")
    assert not mark.exists()


@pytest.mark.parametrize("where", ["evil/base", "/etc", "../../elsewhere", "https://evil.example/base", ""])
def test_039_a_base_that_an_adapter_names_is_compared_and_never_looked_for(resident, tuned, where, looked_up_hosts):
    folder = make_adapter(resident, "odd", 2)
    edit_config(folder, base_model_name_or_path=where)
    assert refusal(resident, "odd") == ("The adapter 'odd' is damaged: adapter_config.json is not as it was written.")
    unsealed(folder)
    assert refusal(resident, "odd") == (
        f"The adapter 'odd' was made elsewhere and says that it belongs to {where or 'no base'}, and tiny-llama is "
        'loaded. Choose that base; or where you are sure that it is this one, write "tiny-llama" as '
        "base_model_name_or_path into its adapter_config.json."
    )
    assert looked_up_hosts == []


def test_040_an_adapter_of_another_shape_says_whose_it_is(resident, tuned, tiny_mistral_dir, tmp_path):
    config = json.loads((tiny_mistral_dir / "config.json").read_text())
    assert config["model_type"] == "mistral"
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    larger = tmp_path / "tiny128"
    tokenizer = AutoTokenizer.from_pretrained(resident.folder)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(larger)
    tokenizer.save_pretrained(larger)
    folder = make_adapter(ResidentModel(larger, CPU), "wide", 2)
    assert refusal(resident, "wide") == (
        "The adapter 'wide' was trained on tiny128, and tiny-llama is loaded. Choose that base first."
    )
    unsealed(folder)
    edit_config(folder, base_model_name_or_path="somewhere/tiny-llama")
    assert refusal(resident, "wide").startswith(
        "The adapter 'wide' was trained on another base: it has a weight for 'model.layers.0."
    )


def test_041_an_adapter_made_elsewhere_answers_once_somebody_has_said_whose_it_is(resident, tuned):
    folder = unsealed(make_adapter(resident, "old", 2))
    edit_config(folder, base_model_name_or_path=None)
    assert "says that it belongs to no base, and tiny-llama is loaded." in refusal(resident, "old")
    edit_config(folder, base_model_name_or_path="tiny-llama")
    resident.attach("old")
    assert says(resident, "old") not in (says(resident, "base"), says(resident, tuned))


@pytest.mark.parametrize("files", [[], None, "all", 5])
def test_045_a_manifest_of_another_kind_is_damaged_even_where_its_seal_is_right(resident, tuned, files):
    path = make_adapter(resident, "bad", 2) / adapters.MANIFEST
    manifest = json.loads(path.read_text()) | {"files": files}
    path.write_text(json.dumps({**manifest, adapters.SEAL: adapters.seal(manifest)}))
    assert refusal(resident, "bad") == "The adapter 'bad' is damaged: manifest.json is not as it was written."


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"[" * 200_000, b'{"r": 1e999}', b"\xff" * 64, b"null", b"[]"])
def test_045_a_configuration_that_is_none_is_a_sentence(resident, tuned, content):
    path = unsealed(make_adapter(resident, "bad", 2)) / adapters.CONFIG
    path.write_bytes(content)
    assert refusal(resident, "bad").startswith("The adapter 'bad' ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_046_numbers_that_are_none_never_answer_in_any_precision(resident, tuned, value, dtype):
    path = unsealed(make_adapter(resident, "bad", 2)) / adapters.WEIGHTS
    weights = {key: tensor.to(dtype) for key, tensor in load_file(path).items()}
    list(weights.values())[-1][-1, -1] = value
    save_file(weights, path)
    assert refusal(resident, "bad").startswith("The adapter 'bad' holds numbers that are not finite in 'base_model.")


def test_047_an_adapter_replaced_or_deleted_on_disk_goes_on_answering_and_the_list_is_the_disks(resident, tuned):
    before, folder = says(resident, tuned), runs.adapter_dir(tuned)
    shutil.rmtree(folder)
    make_adapter(resident, "other", 5)
    shutil.copytree(runs.adapter_dir("other"), folder)
    assert says(resident, tuned) == before
    assert sorted(runs.list_adapters()) == ["other", tuned]
    shutil.rmtree(folder.parent)
    assert says(resident, tuned) == before
    assert runs.list_adapters() == ["other"]


@pytest.mark.parametrize(("name", "who"), [("base", "the untouched model"), ("default", "the adapter in training")])
def test_126_no_adapter_is_called_as_somebody_else_is_asked(resident, name, who):
    with pytest.raises(RequestError) as error:
        make_adapter(resident, name)
    assert str(error.value) == f"'{name}' is no name for a run: {who} is called so. Take another."
    (paths.finetuned_dir() / name).mkdir()
    assert runs.list_runs() == []
    with pytest.raises(RequestError, match="is no name for a run"):
        resident.attach(name)


def test_126_of_many_adapters_the_first_are_forgotten_and_come_back_when_they_are_asked(resident, monkeypatch):
    monkeypatch.setattr(loader, "MAX_ADAPTERS", 3)
    names = [f"adapter-{number}" for number in range(5)]
    said = {}
    for seed, name in enumerate(names, 1):
        make_adapter(resident, name, seed)
        resident.attach(name)
        resident.trim({name, names[0]})
        said[name] = says(resident, name)
    assert resident.adapters == (names[0], *names[3:])
    assert not resident.trim(set())
    assert len(set(said.values())) == len(names)
    for name in names:
        resident.attach(name)
        assert says(resident, name) == said[name]
