"""What every test stands on: a home of its own, no keys, no network, and models so small that they load at once.

torch and transformers are imported only inside the fixtures that build a model.
"""

import gc
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from core import paths

# Threads that wait for each other take several times the processor of a model this small. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LOOPBACK = ("localhost", "localhost.localdomain", "::1", "0.0.0.0", "::", "")

# Set to nothing rather than removed: a developer's own .env never overrides what is set.
KEYS = (
    "HUGGINGFACE_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY",
    "GOOGLE_GEMINI_BASE_URL",
)  # fmt: skip

SENTENCES = (
    "The lamp on the desk is green and warm.",
    "A slow river bends twice before it meets the sea.",
    "How many apples are left in the wooden bowl?",
    "Put the kettle on, then cut the bread into thin slices.",
    "Numbers such as 12, 47 and 305 stand between the words.",
    "Next step: write down one question and ask it tomorrow.",
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Behaves as Mistral-Instruct v0.3 does: the system text stands in the last user turn, and only while that turn is the
# last message; two turns of one role are refused; add_generation_prompt changes nothing.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set turns = messages %}{% endif %}{{ bos_token }}{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate between user and assistant.') }}{% endif %}"
    "{% if turn['role'] == 'user' %}{% if loop.last and system is defined %}"
    "{{ '[INST] ' + system + '\n\n' + turn['content'] + '[/INST]' }}"
    "{% else %}{{ '[INST] ' + turn['content'] + '[/INST]' }}{% endif %}"
    "{% elif turn['role'] == 'assistant' %}{{ ' ' + turn['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant turns are known.') }}{% endif %}{% endfor %}"
)


# Files whose tests train. Workers take whole files in turn, and who begins with these has none left at the end that
# one worker alone is busy with.
DEAREST = (
    "test_training_processes.py", "test_page.py", "test_runner.py", "test_watch.py", "test_engine.py",
    "test_checkpoints.py", "test_cli.py", "test_train.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in DEAREST)


def pytest_collection_finish() -> None:
    """What is imported by now stays: each run collects garbage several times, and would walk through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's is read or written, and nobody's key is spent."""
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path))
    for name in KEYS:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    return tmp_path


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest):
    """Tiny models on one thread: on a busy machine several wait for each other far longer than they compute."""
    if not {"tiny_model_dir", "tiny_mistral_dir"}.intersection(request.fixturenames):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look's responses are a few tokens long: at their own length they take half of a tiny run."""
    from core import watch

    monkeypatch.setattr(watch, "GREEDY", replace(watch.GREEDY, max_new_tokens=8))


@pytest.fixture(autouse=True)
def looked_up_hosts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hosts but loopback that were asked for, all refused as if there were no network."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def loopback_only(host, *arguments, **named):
        name = host.decode() if isinstance(host, bytes) else host or ""
        if name in LOOPBACK or name.startswith("127."):
            return look_up(host, *arguments, **named)
        asked.append(name)
        raise socket.gaierror(socket.EAI_NONAME, f"tests look up no host, and '{name}' was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", loopback_only)
    return asked


def _tokenizer(specials: list[str], template: str, **named: str):
    """A byte-level BPE tokenizer trained on the sentences above."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=specials, initial_alphabet=sorted(alphabet), show_progress=False
    )
    raw.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=template, model_max_length=1024, **named)


def _save(model_class: str, config_class: str, tokenizer, folder: Path, **named) -> Path:
    """A random model of 2 layers, the same at every call, saved with its tokenizer."""
    import torch
    import transformers

    config = getattr(transformers, config_class)(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **named,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = getattr(transformers, model_class)(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama that is made like the starter: ChatML, tied embeddings, pad and end are <|im_end|>."""
    tokenizer = _tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], CHATML,
        bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bases") / "tiny-llama"
    return _save("LlamaForCausalLM", "LlamaConfig", tokenizer, folder, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def tiny_mistral_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Mistral with the peculiarities of Mistral-Instruct v0.3: see MISTRAL; a leading <s>, no pad."""
    from tokenizers import processors

    tokenizer = _tokenizer(
        ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], MISTRAL, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    folder = tmp_path_factory.mktemp("bases") / "tiny-mistral"
    return _save(
        "MistralForCausalLM", "MistralConfig", tokenizer, folder, sliding_window=None, tie_word_embeddings=False
    )


@pytest.fixture
def resident(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch):
    """The tiny Llama in memory, on the CPU in float32; collecting garbage would take longer than all the rest."""
    import torch

    from core import loader
    from core.device import Device

    monkeypatch.setattr(loader, "release", lambda kind: None)
    paths.ensure_home()
    return loader.ResidentModel(tiny_model_dir, Device("cpu", torch.float32, "sdpa", "for tests"))


@pytest.fixture
def tuned(resident) -> str:
    """An adapter that is attached to it."""
    from tests.make_adapter import make_adapter

    make_adapter(resident, "tuned")
    resident.attach("tuned")
    return "tuned"


@pytest.fixture(scope="session")
def shared_starter_dir() -> Path:
    """The starter model in the project's own models/base, brought once where it is not there."""
    from core import starter

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PLAYGROUND_HOME", raising=False)
        return starter.bring(lambda message, share: None)


@pytest.fixture
def starter_dir(shared_starter_dir: Path, own_home: Path) -> Path:
    """The starter model, linked into the test's home."""
    link = own_home / "models" / "base" / paths.STARTER_NAME
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(shared_starter_dir)
    return link


def transcript_row(number: int) -> dict[str, str]:
    """A distinct preference pair as HH-RLHF writes it; the chosen reply ends with one next step."""
    question = f"\n\nHuman: What is in box {number}?\n\nAssistant:"
    return {
        "chosen": f"{question} Box {number} holds {number + 2} apples. Next step: open it.",
        "rejected": f"{question} Well, who can say what box {number} holds, it might be many things, or none.",
    }


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """40 distinct preference pairs as HH-RLHF transcripts."""
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(transcript_row(n)) + "\n" for n in range(1, 41)), encoding="utf-8")
    return path
