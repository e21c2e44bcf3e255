"""One row a pair says what TRL's two rows say, or stands aside."""

import copy

import pytest
import torch
import transformers
from trl.trainer import utils
from trl.trainer.dpo_trainer import DataCollatorForPreference

from core import fused_head, shared_prefix

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
ARCHITECTURES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
PAIRS = [(9, 5, 3), (1, 1, 7), (4, 8, 8), (17, 2, 1)]


def tiny(architecture: str, attention: str = "sdpa", **changes) -> torch.nn.Module:
    name = ARCHITECTURES[architecture]
    config = getattr(transformers, f"{name}Config")(**SIZES, **({"head_dim": 8} if name == "Qwen3" else {}), **changes)
    config._attn_implementation = attention
    torch.manual_seed(3)
    return getattr(transformers, f"{name}ForCausalLM")(config)


def batch(pairs: list[tuple[int, int, int]] = PAIRS, pad_to: int | None = None) -> dict[str, torch.Tensor]:
    """(prompt, chosen, rejected) lengths as TRL's collator lays them out, with labels on the replies."""
    draw = torch.Generator().manual_seed(5)
    rows = [
        {
            name: torch.randint(1, 97, (length,), generator=draw).tolist()
            for name, length in zip(("prompt_ids", "chosen_ids", "rejected_ids"), lengths, strict=True)
        }
        for lengths in pairs
    ]
    found = DataCollatorForPreference(pad_token_id=0, pad_to_multiple_of=pad_to)(rows)
    labels = found["input_ids"].masked_fill(found.pop("completion_mask") == 0, -100)
    return {**found, "labels": labels}


def scored(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[object, dict[str, torch.Tensor]]:
    """What the head says, and the gradients of a loss that weighs the two halves unlike."""
    model.zero_grad()
    with fused_head.compact():
        out = model(**inputs, fused_lm_head=True, use_cache=False)
    chosen, rejected = out.log_probs.sum(dim=1).chunk(2)
    (torch.sigmoid(chosen - 0.7 * rejected).sum() + out.loss).backward()
    return out, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_prompt_is_computed_once_under_ddp_too():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model, inputs = tiny("llama"), batch()
        both(model, inputs)
        alone = scored(model, inputs)
        widths = []
        model.model.embed_tokens.register_forward_hook(lambda layer, given, out: widths.append(tuple(out.shape[:2])))
        wrapped = scored(torch.nn.parallel.DistributedDataParallel(model), inputs)
    finally:
        torch.distributed.destroy_process_group()
    assert widths == [(len(PAIRS), max(prompt + chosen + 1 + rejected for prompt, chosen, rejected in PAIRS))]
    assert torch.equal(wrapped[0].log_probs, alone[0].log_probs)
    assert all(torch.equal(gradient, alone[1][name.replace("module.", "")]) for name, gradient in wrapped[1].items())


def both(model: torch.nn.Module, inputs: dict[str, torch.Tensor], pad_to: int = 1) -> list[tuple]:
    """On TRL's two rows, and on one."""
    outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
    utils.add_fused_lm_head(model, outputs=outputs)
    stock = scored(model, inputs)
    shared_prefix.install(model, pad_to)
    return [stock, scored(model, inputs)]


def widths(model: torch.nn.Module) -> list[tuple[int, ...]]:
    """The shapes that go through the layers from now on."""
    seen: list[tuple[int, ...]] = []
    model.model.layers[0].register_forward_hook(lambda layer, inputs, out: seen.append(tuple(inputs[0].shape[:2])))
    return seen


@pytest.mark.parametrize("is_saving", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("attention", shared_prefix.ATTENTION)
@pytest.mark.parametrize("architecture", shared_prefix.ARCHITECTURES)
def test_one_row_a_pair_says_what_two_say(architecture, attention, is_saving):
    model = tiny(architecture, attention).train()
    if is_saving:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    (stock, gradients), (shared, own) = both(model, batch())
    assert torch.equal(stock.label_mask, shared.label_mask)
    assert torch.equal(stock.is_top1, shared.is_top1)
    for name in ("log_probs", "entropy", "mean_logits", "loss"):
        torch.testing.assert_close(getattr(shared, name), getattr(stock, name), rtol=1e-5, atol=1e-5)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-4, atol=1e-5)


def test_a_prompt_goes_through_the_layers_once():
    model = tiny("llama")
    seen = widths(model)
    both(model, batch([(20, 3, 4), (18, 2, 2)]))
    assert seen == [(4, 24), (2, 28)]


def test_rows_are_filled_up_as_trls_are():
    model = tiny("llama")
    seen = widths(model)
    (stock, _), (shared, _) = both(model, batch(pad_to=16), pad_to=16)
    torch.testing.assert_close(shared.log_probs, stock.log_probs, rtol=1e-5, atol=1e-5)
    assert seen[1] == (4, 32)


def test_the_rejected_reply_does_not_see_the_chosen_one():
    model = tiny("mistral")
    utils.add_fused_lm_head(model)
    shared_prefix.install(model)
    inputs = batch([(6, 4, 4)])
    before, _ = scored(model, inputs)
    other = copy.deepcopy(inputs)
    other["input_ids"][0, 6:] = other["labels"][0, 6:] = 11
    after, _ = scored(model, other)
    assert not torch.equal(before.log_probs[0], after.log_probs[0])
    assert torch.equal(before.log_probs[1], after.log_probs[1])


def test_a_window_that_is_too_short_for_the_rows_is_not_switched_off():
    inside, outside = batch([(5, 3, 3)]), batch([(9, 5, 3)])
    model = tiny("mistral", sliding_window=8)
    seen = widths(model)
    both(model, inside)
    assert seen == [(2, 8), (1, 12)]
    model = tiny("mistral", sliding_window=8)
    seen = widths(model)
    (stock, _), (shared, _) = both(model, outside)
    assert seen == [(2, 14), (2, 14)]
    assert torch.equal(stock.log_probs, shared.log_probs)


def test_what_is_no_batch_of_pairs_goes_the_stock_way():
    inputs = batch()
    odd = {name: rows[:-1] for name, rows in inputs.items()}
    unlike = copy.deepcopy(inputs)
    unlike["input_ids"][0, 0] += 1
    without = copy.deepcopy(inputs)
    without["labels"][4:] = -100
    for other in (odd, unlike, without):
        model = tiny("qwen2")
        seen = widths(model)
        with torch.no_grad():
            utils.add_fused_lm_head(model)
            shared_prefix.install(model)
            model(**other, fused_lm_head=True, use_cache=False)
        assert seen == [tuple(other["input_ids"].shape)]


def test_plain_calls_and_generation_are_as_before():
    model = tiny("llama").eval()
    ids = batch()["input_ids"][:1]
    before = model(input_ids=ids).logits, model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    utils.add_fused_lm_head(model)
    shared_prefix.install(model)
    after = model(input_ids=ids).logits, model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert model(input_ids=ids, labels=ids).loss > 0


@pytest.mark.parametrize(("change", "why"), [
    ({"model_type": "gpt2"}, "sharing it has not been tried with gpt2 models"),
    ({"_attn_implementation": "flex_attention"}, "flex_attention attention takes no mask that would part two replies"),
])  # fmt: skip
def test_a_model_that_cannot_share_is_refused_with_the_reason(change, why):
    model = tiny("llama")
    for name, value in change.items():
        object.__setattr__(model.config, name, value)
    assert shared_prefix.why_not(model) == why
    with pytest.raises(ValueError, match=why):
        shared_prefix.install(model)


def test_a_version_of_trl_that_nobody_has_tried_is_refused(monkeypatch):
    monkeypatch.setattr(shared_prefix, "TRL_VERSION", "2.0.0")
    assert shared_prefix.why_not(tiny("llama")) == "sharing it has not been tried with TRL 2.0.0"
