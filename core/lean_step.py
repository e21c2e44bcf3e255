"""One token through a Llama, a Mistral or a Qwen2, without the Python that stands around the arithmetic.

A pass of one token only reads the weights, and on the starter the modules' own way through them costs an eighth of it.
The same operations in the same order, so the same numbers. Any other model, and one whose `forward` is replaced, as a
run does it, goes its own way.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from transformers import DynamicCache, LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

KINDS = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)

Apply = Callable[[torch.Tensor], torch.Tensor]


class LeanStep:
    """Good for as long as neither weights, active adapters nor their scales change."""

    def __init__(self, model: Any) -> None:
        self.model = model.model
        self.layers = [_Layer(layer, number) for number, layer in enumerate(self.model.layers)]
        self.head = _linear(model.lm_head)

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether it is one of these kinds, whole, with an attention whose mask is boolean; sliding windows aside."""
        is_stock = type(model) in KINDS and "forward" not in vars(model)
        return is_stock and model.config._attn_implementation == "sdpa"

    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits (rows, vocabulary) after `ids` (rows, 1); `mask` (rows, 1, 1, cached tokens and this) is boolean."""
        x = self.model.embed_tokens(ids)
        rotation = self.model.rotary_emb(x, position_ids=positions)
        for layer in self.layers:
            x = layer(x, mask, rotation, cache)
        return self.head(self.model.norm(x))[:, -1]


class _Layer:
    def __init__(self, layer: Any, number: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.number = number
        self.attention = attention
        self.norm, self.second_norm = layer.input_layernorm.forward, layer.post_attention_layernorm.forward
        self.q, self.k, self.v = (_linear(m) for m in (attention.q_proj, attention.k_proj, attention.v_proj))
        self.o = _linear(attention.o_proj)
        self.gate, self.up, self.down = (_linear(m) for m in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self.act = mlp.act_fn.forward

    def __call__(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        rotation: tuple[torch.Tensor, torch.Tensor],
        cache: DynamicCache,
    ) -> torch.Tensor:
        h = self.norm(x)
        # Of one token, heads before tokens is the same as tokens before heads.
        q, k, v = (f(h).view(len(x), -1, 1, self.attention.head_dim) for f in (self.q, self.k, self.v))
        q, k = apply_rotary_pos_emb(q, k, *rotation)
        k, v = cache.layers[self.number].update(k, v)
        attended, _ = sdpa_attention_forward(self.attention, q, k, v, mask, scaling=self.attention.scaling)
        x = x + self.o(attended.view(len(x), 1, -1))
        h = self.second_norm(x)
        return x + self.down(self.act(self.gate(h)) * self.up(h))


def _linear(module: Any) -> Apply:
    """What the layer computes with the adapters that are active now, rows scaled as they are now."""
    if not isinstance(module, LoraLayer):
        return partial(F.linear, weight=module.weight, bias=module.bias)
    base: Any = module.get_base_layer()
    plain = partial(F.linear, weight=base.weight, bias=base.bias)
    active = [name for name in module.active_adapters if name in module.lora_A]
    parts = [(module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]) for name in active]

    def tuned(x: torch.Tensor) -> torch.Tensor:
        result = plain(x)
        dtype = result.dtype
        for down, up, scale in parts:
            x = x.to(down.dtype)
            result = result + F.linear(F.linear(x, down), up) * scale
        return result.to(dtype)

    return tuned if parts else plain
