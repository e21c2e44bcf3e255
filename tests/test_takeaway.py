"""What is taken along answers elsewhere as it does here: in plain PEFT, and merged, in plain transformers."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from core import adapters, cli, device, fingerprint, history, loader, paths, runs, takeaway
from core.client import Turn
from core.device import Device
from core.errors import AdapterError, Cancelled, ModelError, PlaygroundError, RequestError
from core.loader import BASE, ResidentModel
from core.messages import ask
from core.settings import Decoding, Method
from tests.in_process import start_client
from tests.make_adapter import make_adapter

CPU = Device("cpu", torch.float32, "sdpa", "for tests")
GREEDY = Decoding(max_new_tokens=8, temperature=0.0)
ONE_BASE = pytest.mark.parametrize("base", ["tied"], indirect=True)
TEXTS = ("Where is the lamp?", "Put the kettle on, then cut the bread. Numbers such as 12 and 305.")


def quiet(done: int, total: int) -> None:
    """Whoever merges need not be told how far it is."""


@pytest.fixture(autouse=True)
def no_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage takes longer than all the rest."""
    for module in (loader, device):
        monkeypatch.setattr(module, "release", lambda kind: None)


@pytest.fixture(params=["tied", "untied"])
def base(request: pytest.FixtureRequest, tiny_model_dir: Path, tiny_mistral_dir: Path) -> Path:
    """Llama's and Mistral's kind; the first one's embeddings are its head too."""
    return tiny_model_dir if request.param == "tied" else tiny_mistral_dir


@pytest.fixture
def resident(base: Path) -> ResidentModel:
    paths.ensure_home()
    resident = ResidentModel(base, CPU)
    for name, seed in (("mine", 1), ("other", 2)):
        make_adapter(resident, name, seed)
        resident.attach(name)
    return resident


def logits(model, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS])


def says(resident: ResidentModel, contender: str) -> torch.Tensor:
    with resident.speaking([contender]):
        return logits(resident.model, resident.tokenizer)


def plain(folder: Path):
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="auto")
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def is_close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())


def test_an_adapter_answers_in_plain_peft_as_it_does_here(resident, base):
    model, tokenizer = plain(base)
    tuned = PeftModel.from_pretrained(model, paths.run_dir("mine") / "adapter").eval()
    assert is_close(logits(tuned, tokenizer), says(resident, "mine"))


def test_a_merged_model_answers_in_plain_transformers_and_nothing_here_has_changed(resident, base):
    before = {contender: says(resident, contender) for contender in (BASE, "mine", "other")}
    assert not is_close(before["mine"], before[BASE])
    told = []
    merged = takeaway.merge(resident, "mine", lambda done, total: told.append((done, total)))
    assert merged.folder == str(paths.merged_dir() / "mine")
    model, tokenizer = plain(Path(merged.folder))
    assert is_close(logits(model, tokenizer), before["mine"])
    assert 0 <= merged.largest_difference <= 1e-4 * float(before["mine"].abs().max())
    assert merged.sentence.startswith("Its logits are those of base and adapter but for ")
    assert tokenizer.chat_template == resident.tokenizer.chat_template is not None
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]
    assert all(torch.equal(says(resident, contender), was) for contender, was in before.items())
    card = (Path(merged.folder) / "README.md").read_text()
    assert merged.sentence in card
    assert str(base) not in card
    assert [path.name for path in paths.merged_dir().iterdir()] == ["mine"]


def test_every_other_tensor_is_the_bases_own(resident, base):
    merged = Path(takeaway.merge(resident, "mine", quiet).folder)
    own, others = load_file(merged / "model.safetensors"), load_file(base / "model.safetensors")
    touched = {f"{name}.weight" for name in adapters.verify(adapters.find("mine")).modules}
    assert own.keys() == others.keys() > touched
    for name, weight in others.items():
        assert torch.equal(own[name], weight) == (name not in touched)


def test_a_merged_model_is_a_base_like_any_other(resident):
    merged = Path(takeaway.merge(resident, "mine", quiet).folder)
    again = ResidentModel(merged, CPU)
    assert is_close(says(again, BASE), says(resident, "mine"))
    assert again.fingerprint != resident.fingerprint


@ONE_BASE
def test_merging_once_more_takes_the_older_ones_place(resident):
    folder = Path(takeaway.merge(resident, "mine", quiet).folder)
    first = fingerprint.hash_files([folder / "model.safetensors"])
    make_adapter(resident, "mine", 3)
    takeaway.merge(resident, "mine", quiet)
    assert fingerprint.hash_files([folder / "model.safetensors"]) != first
    assert is_close(logits(*plain(folder)), says(resident, "mine"))


def test_a_base_in_several_files_is_merged_file_by_file(tiny_model_dir, tmp_path):
    paths.ensure_home()
    base = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(tiny_model_dir).save_pretrained(base, max_shard_size="100KB")
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(base)
    assert len(fingerprint.weight_files(base)) > 2
    resident = ResidentModel(base, CPU)
    make_adapter(resident, "mine")
    merged = Path(takeaway.merge(resident, "mine", quiet).folder)
    assert is_close(logits(*plain(merged)), says(resident, "mine"))


@pytest.mark.parametrize("has_room", [True, False])
def test_half_precision_is_merged_within_its_rounding(tiny_model_dir, tmp_path, monkeypatch, has_room):
    paths.ensure_home()
    base = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.bfloat16).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(base)
    resident = ResidentModel(base, Device("cpu", torch.bfloat16, "sdpa", "for tests"))
    make_adapter(resident, "mine", scale=0.1)
    monkeypatch.setattr(takeaway, "_has_room", lambda resident: has_room)
    merged = takeaway.merge(resident, "mine", quiet)
    assert (merged.largest_difference is None) != has_room
    assert all(
        weight.dtype == torch.bfloat16 for weight in load_file(Path(merged.folder) / "model.safetensors").values()
    )
    wanted = says(resident, "mine").float()
    found = logits(*plain(Path(merged.folder))).float()
    assert float((found - wanted).abs().max()) <= 0.05 * float(wanted.abs().max())


def test_without_room_for_a_second_model_none_is_loaded_and_every_tensor_is_read_back(resident, monkeypatch):
    monkeypatch.setattr(device, "memory_limit", lambda kind: 0)
    monkeypatch.setattr(takeaway.base_files, "load", None)
    merged = takeaway.merge(resident, "mine", quiet)
    assert merged.largest_difference is None
    assert merged.sentence.startswith(
        "There is no room to load it beside the base, so its weights were read back instead: 14 are base and adapter "
        "added up, rounded by 0 at most, and the other "
    )
    assert is_close(logits(*plain(Path(merged.folder))), says(resident, "mine"))


@ONE_BASE
@pytest.mark.parametrize("has_room", [True, False])
def test_what_came_out_wrong_is_not_kept(resident, monkeypatch, has_room):
    write = takeaway._add

    def spoil(lora, places, aside, steps):
        write(lora, places, aside, steps)
        weights = load_file(aside / "model.safetensors")
        name = next(name for name in weights if name.endswith("1.self_attn.q_proj.weight"))
        weights[name] = -weights[name]
        save_file(weights, aside / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(takeaway, "_add", spoil)
    monkeypatch.setattr(takeaway, "_has_room", lambda resident: has_room)
    with pytest.raises(PlaygroundError, match=r"^The merged model.* Nothing of it was kept") as error:
        takeaway.merge(resident, "mine", quiet)
    assert ("does not answer as base and adapter do" in str(error.value)) == has_room
    assert list(paths.merged_dir().iterdir()) == []


@ONE_BASE
def test_stopping_half_way_leaves_nothing_and_an_older_one_whole(resident):
    folder = Path(takeaway.merge(resident, "mine", quiet).folder)
    before = fingerprint.hash_files([folder / "model.safetensors"])

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise Cancelled("Stopped.")

    make_adapter(resident, "mine", 3)
    with pytest.raises(Cancelled):
        takeaway.merge(resident, "mine", stop)
    assert [path.name for path in paths.merged_dir().iterdir()] == ["mine"]
    assert fingerprint.hash_files([folder / "model.safetensors"]) == before


@ONE_BASE
def test_a_full_disk_is_said_before_anything_is_written(resident, monkeypatch):
    monkeypatch.setattr(takeaway.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 90_000_000))
    with pytest.raises(RequestError) as error:
        takeaway.merge(resident, "mine", quiet)
    assert str(error.value) == "The merged model takes 0.1 GB on disk, and 0.1 GB are free. Make room first."
    assert list(paths.merged_dir().iterdir()) == []


def test_weights_that_lie_on_disk_in_another_form_are_refused(tiny_model_dir, tmp_path):
    paths.ensure_home()
    base = shutil.copytree(tiny_model_dir, tmp_path / "other")
    resident = ResidentModel(base, CPU)
    make_adapter(resident, "mine")
    weights = {name.replace("q_proj", "wq"): weight for name, weight in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors")
    with pytest.raises(ModelError) as error:
        takeaway.merge(resident, "mine", quiet)
    assert str(error.value) == (
        f"{resident.name} keeps 'model.layers.0.self_attn.q_proj' in another form on disk than in memory, so an "
        "adapter cannot be merged into it. Take the adapter along as it is: plain PEFT loads it."
    )


@ONE_BASE
def test_a_damaged_or_an_unknown_adapter_is_not_merged(resident):
    folder = paths.run_dir("mine") / "adapter"
    config = json.loads((folder / adapters.CONFIG).read_text())
    (folder / adapters.CONFIG).write_text(json.dumps(config | {"lora_alpha": 9}))
    for name in ("mine", "gone"):
        with pytest.raises(AdapterError):
            takeaway.merge(resident, name, quiet)
    assert list(paths.merged_dir().iterdir()) == []


def test_the_engine_merges_stops_merging_and_knows_what_was_renamed_or_deleted(tiny_model_dir, monkeypatch):
    paths.ensure_home()
    for name in ("mine", "other"):
        runs.create(Method.DPO, name)
        make_adapter(ResidentModel(tiny_model_dir, CPU, str(tiny_model_dir)), name)
    for name in ("mine", "other"):
        runs.write(runs.read_run(name), status=runs.RunStatus.FINISHED)
    with closing(start_client(str(tiny_model_dir), monkeypatch)) as client:
        told: list[tuple[int, int]] = []
        assert Path(client.merge("mine", lambda *done: told.append(done)).folder).is_dir()
        assert told[-1][0] == told[-1][1] == len(told)
        assert client.state().adapters == ("mine",)

        said = client.answer([Turn("mine", ask("Hello"))], GREEDY)
        with monkeypatch.context() as patch:
            patch.setattr(client._process.engine, "_is_stopped", lambda number: True)
            with pytest.raises(Cancelled, match="The merging was stopped, and nothing of it was kept."):
                client.merge("other")
        assert [path.name for path in paths.merged_dir().iterdir()] == ["mine"]
        history.rename("mine", "yours")
        assert client.answer([Turn("yours", ask("Hello"))], GREEDY) == said
        with pytest.raises(AdapterError, match="No adapter named 'mine'. There are: "):
            client.answer([Turn("mine", ask("Hello"))], GREEDY)
        history.delete("yours")
        with pytest.raises(AdapterError, match="No adapter named 'yours'. There are: other."):
            client.answer([Turn("yours", ask("Hello"))], GREEDY)
        history.rename("other", "mine")
        assert client.check("mine").ok


def test_the_command_merges_what_the_adapter_was_trained_on(tiny_model_dir, capsys):
    paths.ensure_home()
    make_adapter(ResidentModel(tiny_model_dir, CPU, str(tiny_model_dir)), "mine")
    assert cli.main(["merge", "--adapter", "mine", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert result.keys() == {"folder", "largest_difference"}
    assert Path(result["folder"], "model.safetensors").is_file()
    assert "merging 16/16\nIts logits are those of base and adapter but for " in err
    assert cli.main(["merge", "--adapter", "gone"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "No adapter named 'gone'. There are: mine."
