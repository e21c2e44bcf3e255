"""A settings file says how to train and nothing else; whatever is wrong in one is named, and a run.yaml will do too."""

import pytest

from core import settings_file
from core.errors import PlaygroundError
from core.settings import MAX_PINNED, Method
from core.wire import RunRequest

RUN = """
method: dpo
model: smollm2-135m-instruct
base_fingerprint: 3f9a
dataset: starter
data: data.jsonl
from_adapter: sft-1122-1405
settings: {learning_rate: 5.0e-05, beta: 0.2, loss: ipo+sft}
pinned: ["Why is the sky blue?"]
versions: {torch: 2.13.0}
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes) -> RunRequest:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return settings_file.read(path)

    return read


def test_what_was_saved_is_what_is_loaded(read):
    request = RunRequest(
        method=Method.DPO, dataset="/home/me/secret.jsonl", model="mine", from_adapter="sft-1",
        settings={"learning_rate": "3e-4", "loss": "ipo+sft", "gradient_checkpointing": True, "epochs": 3.0},
        pinned=("What's new? é — 中", "- a: b"),
    )  # fmt: skip
    text = settings_file.write(request)
    assert "secret" not in text
    assert read(text) == RunRequest(
        method=Method.DPO,
        settings={"learning_rate": 3e-4, "loss": "ipo+sft", "gradient_checkpointing": True, "epochs": 3},
        pinned=request.pinned,
    )


def test_rates_may_be_written_as_people_write_them(read):
    assert read("method: sft\nsettings:\n  learning_rate: 2e-4\n").settings == {"learning_rate": 2e-4}


def test_a_run_yaml_gives_how_it_was_trained_and_not_on_what(read):
    assert read(RUN) == RunRequest(
        method=Method.DPO, settings={"learning_rate": 5e-5, "beta": 0.2, "loss": "ipo+sft"},
        pinned=("Why is the sky blue?",), from_adapter="sft-1122-1405",
    )  # fmt: skip


def test_the_first_run_of_two_gives_both(read):
    first = RUN.replace("method: dpo", "method: sft").replace("beta: 0.2, loss: ipo+sft", "epochs: 2")
    request = read(first + "then: {learning_rate: 2.0e-04, beta: 0.1, epochs: 1, run: mine}\n")
    assert (request.method, request.settings) == (
        Method.SFT_DPO,
        {"learning_rate": 2e-4, "beta": 0.1, "epochs": 1, "sft_learning_rate": 5e-5, "sft_epochs": 2},
    )


@pytest.mark.parametrize(("text", "sentence"), [
    ("method: dpo\nsettings: {gamma: 1}", "There is no setting named 'gamma'. There are: learning_rate, beta, "),
    ("method: dpo\nsettings: {beta: 7}", "Beta must be a number from 0.01 to 1, not '7'."),
    ("method: dpo\nsettings: {beta: .nan}", "Beta must be a number from 0.01 to 1, not 'nan'."),
    ("method: dpo\nsettings: {epochs: [1, 2]}", "Passes must be a whole number from 1 to 20, not a list."),
    ("method: dpo\nsettings: {epochs: 0x" + "f" * 20_000 + "}", "Passes must be a whole number from 1 to 20, not a "),
    ("method: ppo", "Method must be one of sft, dpo, sft+dpo, not 'ppo'."),
    ("settings: {beta: 0.1}", "Method must be one of sft, dpo, sft+dpo, not 'None'."),
    ("method: dpo\nmodle: x", "mine.yaml has an unknown entry 'modle'. Known: method, settings, "),
    ("method: dpo\n3: x", "mine.yaml has an unknown entry a int. Known: "),
    ("method: dpo\nsettings: [beta]", "'settings' must be a list of 'name: value' lines, not a list."),
    ("method: dpo\npinned: Why?", "Pinned prompts must be texts, one a line."),
    (f"method: dpo\npinned: [{', '.join('abcdefghij'[: MAX_PINNED + 1])}]", "There may be 5 pinned prompts of "),
    ("method: dpo\nfrom_adapter: {a: 1}", "from_adapter must be an adapter's name, not a dict."),
    ("- a", "mine.yaml holds no settings: they are 'name: value' lines under 'settings:'."),
    ("", "mine.yaml holds no settings"),
    ("method: dpo\na: [", "mine.yaml is not a readable YAML file (see line 2)."),
    ("!!python/object/apply:os.system ['true']", "mine.yaml is not a readable YAML file (see line 1)."),
    (b"\xff\xfe\x00", "mine.yaml is not a readable YAML file ("),
    ("[" * 20_000, "mine.yaml is not a readable YAML file (RecursionError)."),
    (" " * 70_000, "mine.yaml has 70,000 bytes, and a settings file at most 65,536."),
])  # fmt: skip
def test_what_is_wrong_is_named(read, text, sentence):
    with pytest.raises(PlaygroundError) as refusal:
        read(text)
    assert str(refusal.value).startswith(sentence)


def test_lists_that_would_fill_the_memory_are_not_written_out(read):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    with pytest.raises(PlaygroundError, match="unknown entry 'a0'"):
        read("method: dpo\n" + bomb)
    with pytest.raises(PlaygroundError, match=r"not a list\.$"):
        read("base_fingerprint: x\nmethod: dpo\n" + bomb + "settings: {beta: *a59}\n")
