"""A LoRA layer as one operation learns what PEFT's learns, and stands aside for everything else."""

import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer

from core import lora_pass
from tests.test_shared_prefix import tiny

POLICY = "default"


def adapted(architecture: str = "llama", **changes) -> torch.nn.Module:
    """A tiny model with a policy whose both halves have something to learn."""
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, **changes)
    model = peft.get_peft_model(tiny(architecture), config, POLICY)
    return model.train()


def learnt(model: torch.nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The logits, and the gradients of a loss over them."""
    model.zero_grad()
    logits = model(input_ids=torch.arange(1, 41).view(4, 10), use_cache=False).logits
    logits.logsumexp(dim=-1).square().sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def replaced(model: torch.nn.Module) -> list[LoraLayer]:
    return [layer for layer in model.modules() if isinstance(layer, LoraLayer) and "forward" in layer.__dict__]


@pytest.mark.parametrize("is_saving", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])  # qwen2 has biases
def test_it_says_and_learns_what_pefts_layers_do(architecture, is_saving):
    model = adapted(architecture)
    if is_saving:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    logits, gradients = learnt(model)
    lora_pass.install(model, POLICY)
    assert len(replaced(model)) == 14
    own_logits, own_gradients = learnt(model)
    torch.testing.assert_close(own_logits, logits, rtol=1e-5, atol=1e-5)
    assert own_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own_gradients[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_whoever_speaks_while_it_trains_goes_pefts_way():
    model = adapted()
    model.add_adapter("adapter_0001", peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    model.set_adapter("adapter_0001")
    lora_pass.install(model, POLICY)
    model.eval()
    said = model(input_ids=torch.arange(1, 9)[None]).logits
    lora_pass.remove(model)
    assert not replaced(model)
    assert torch.equal(model(input_ids=torch.arange(1, 9)[None]).logits, said)


@pytest.mark.parametrize(
    "changes", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}], ids=["dropout", "dora", "bias"]
)
def test_an_adapter_that_is_more_than_a_product_keeps_pefts_layers(changes):
    model = adapted(**changes)
    lora_pass.install(model, POLICY)
    assert not replaced(model)


def test_a_base_in_half_precision_keeps_pefts_layers():
    config = peft.LoraConfig(r=4, target_modules="all-linear")
    model = peft.get_peft_model(tiny("llama").to(torch.bfloat16), config, POLICY)
    lora_pass.install(model, POLICY)
    assert not replaced(model)
