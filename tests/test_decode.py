"""The loop of our own says token for token what transformers' `generate` says, with less."""

import contextlib
from collections.abc import Callable

import pytest
import torch
import transformers
from transformers import GenerationConfig

from core import decode
from core.device import own_randomness
from core.loader import BASE
from core.settings import Decoding
from tests.make_adapter import make_adapter

SIZES = {
    "vocab_size": 700, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "a sliding window": ("Mistral", {"sliding_window": 6}),
    "norms of its own": ("Qwen3", {"head_dim": 8}),
    "plain attention": ("Llama", {"attn_implementation": "eager"}),
    "no position ids": ("Bloom", {}),
    "a state beside keys": ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
}
DECODINGS = {
    "greedy": Decoding(14, 0.0),
    "drawn": Decoding(14, 0.9, 1.0, seed=3),
    "from the likeliest few": Decoding(14, 0.7, 0.4, seed=4),
    "from nearly all": Decoding(14, 1.3, 0.99, seed=5),
}
PAD = 0


def tiny(name: str) -> torch.nn.Module:
    kind, changes = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**SIZES, **changes)
    torch.manual_seed(3)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    model.generation_config = GenerationConfig()
    return model


def prompts(lengths: list[int], vocabulary: int = 700) -> list[list[int]]:
    draw = torch.Generator().manual_seed(5)
    return [torch.randint(1, vocabulary, (length,), generator=draw).tolist() for length in lengths]


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


def cut(tokens: list[int], ends: set[int]) -> list[int]:
    return tokens[: next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))]


def stock(model, rows: list[list[int]], decoding: Decoding, ends: set[int]) -> list[list[int]]:
    drawn = {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens, eos_token_id=sorted(ends) or None, pad_token_id=PAD,
        **(drawn if decoding.temperature else {"do_sample": False}),
    )  # fmt: skip
    ids, mask = padded(rows)
    with own_randomness("cpu", decoding.seed):
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [cut(tokens, ends) for tokens in out[:, ids.shape[1] :].tolist()]


def ours(
    model, rows: list[list[int]], decoding: Decoding, ends: set[int], keep: Callable[..., None] = lambda live: None
) -> tuple[list[list[int]], list[int]]:
    """What every row says, and how many rows went through each pass."""
    ids, mask = padded(rows)
    batch = decode.Batch(model, decode.new_cache(model, ids.shape[1] + decoding.max_new_tokens), ids, mask, keep)
    choose = decode.Chooser(decoding, len(rows))
    said: list[list[int]] = [[] for _ in rows]
    sizes = []
    with own_randomness("cpu", decoding.seed):
        for _ in range(decoding.max_new_tokens):
            sizes.append(len(batch.live))
            live, tokens = list(batch.live), choose(batch.logits(), batch.live)
            for row, token in zip(live, tokens.tolist(), strict=True):
                said[row].append(token)
            ended = [bool(ends & set(said[row])) for row in live]
            if all(ended):
                break
            batch.feed(tokens, ended)
    return [cut(tokens, ends) for tokens in said], sizes


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
@pytest.mark.parametrize("name", MODELS)
def test_every_token_is_the_one_that_generate_says(name, decoding):
    model, rows = tiny(name), prompts([9, 4, 7, 1, 9])
    whole = stock(model, rows, decoding, set())
    # What some rows say early is an end in the second round, so that they leave the batch one after another.
    ends = {whole[0][2], whole[1][5], whole[3][8]}
    assert ours(model, rows, decoding, set())[0] == whole
    said, sizes = ours(model, rows, decoding, ends)
    assert said == stock(model, rows, decoding, ends)
    assert (sizes[-1] < len(rows)) is (name != "a state beside keys")


def test_a_few_of_many_rows_that_have_ended_stay_until_dropping_them_pays():
    model, rows = tiny("llama"), prompts([5] * 20)
    whole = ours(model, rows, DECODINGS["drawn"], set())[0]
    ends = {whole[0][1]}
    said, sizes = ours(model, rows, DECODINGS["drawn"], ends)
    assert said == stock(model, rows, DECODINGS["drawn"], ends)
    assert all(a == b or 8 * (a - b) >= a for a, b in zip(sizes, sizes[1:], strict=False))


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
@pytest.mark.parametrize("contenders", [(BASE,), ("one",), (BASE, "one", "two"), ("two", "one")])
def test_contenders_of_one_batch_say_what_they_say_in_generate(resident, contenders, decoding):
    for number, name in enumerate(("one", "two")):
        make_adapter(resident, name, seed=number)
        resident.attach(name)
    speakers = [contenders[i % len(contenders)] for i in range(6)]
    rows = prompts([9, 4, 7, 1, 9, 3], 384)
    with resident.speaking(speakers):
        whole = stock(resident.model, rows, decoding, set())
    ends = {whole[0][3], whole[2][6], whole[4][9]}
    with resident.speaking(speakers):
        expected = stock(resident.model, rows, decoding, ends)
    with resident.speaking(speakers) as keep:
        assert ours(resident.model, rows, decoding, ends, keep)[0] == expected
    resident.prove_base()


def test_the_scales_of_all_rows_are_back_when_rows_were_dropped_and_it_failed(resident):
    make_adapter(resident, "one")
    resident.attach("one")
    before = [(dict(layer.scaling), layer._active_adapter) for layer in resident._layers]
    with contextlib.suppress(ZeroDivisionError), resident.speaking([BASE, "one", BASE]) as keep:
        keep([1, 2])
        assert {tuple(s.shape) for layer in resident._layers for s in layer.scaling.values()} == {(2, 1, 1)}
        raise ZeroDivisionError
    assert [(dict(layer.scaling), layer._active_adapter) for layer in resident._layers] == before


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("lengths", [[6], [6, 3]])
def test_the_lean_step_computes_what_the_model_does_to_the_last_bit(name, lengths):
    model = tiny(name)
    ids, mask = padded(prompts(lengths))
    lean, modules = (decode.Batch(model, decode.new_cache(model, 20), ids, mask, lambda live: None) for _ in range(2))
    modules._can_be_lean = False
    for _ in range(4):
        logits = lean.logits()
        assert torch.equal(logits, modules.logits())
        for batch in (lean, modules):
            batch.feed(logits.argmax(-1), [False] * len(lengths))
    assert lean._lean is not None


def test_a_forward_that_was_replaced_is_the_one_that_is_asked(resident, monkeypatch):
    monkeypatch.setattr(resident.model, "forward", resident.model.forward)
    assert not decode.LeanStep.fits(resident.model)
