"""A LoRA layer of the policy as one operation: what PEFT computes, in fewer passes over memory.

PEFT makes base(x) + B(A(x)) * scaling out of six operations, each of which reads and writes every activation anew, and
autograd adds their gradients one by one. Here the low-rank product is added in place where the wide one lies already.
Only for the policy while it trains; whoever speaks in between goes PEFT's way.
"""

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor


class _LowRank(torch.autograd.Function):
    """x W' + bias + scaling (x A') B', with gradients for x, A and B; the base's weight and bias are frozen.

    Shapes: x (..., in), weight (out, in), bias (out) or None, a (rank, in), b (out, rank).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        rows = x.flatten(0, -2)
        low = rows @ a.T
        out = torch.nn.functional.linear(rows, weight, bias).addmm_(low, b.T, alpha=scaling)
        ctx.save_for_backward(x, low, weight, a, b)
        ctx.scaling = scaling
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, low, weight, a, b = ctx.saved_tensors
        rows, of_out = x.flatten(0, -2), gradients[0].flatten(0, -2)
        of_low = of_out @ b
        # The prompt's embeddings are frozen: below the first layer nobody asks.
        of_x = (of_out @ weight).addmm_(of_low, a, alpha=ctx.scaling).view_as(x) if ctx.needs_input_grad[0] else None
        return of_x, None, None, (of_low.T @ rows) * ctx.scaling, (of_out.T @ low) * ctx.scaling, None


def install(model: torch.nn.Module, adapter: str) -> None:
    """Let every layer on which `adapter` sits plainly compute it at once while the model trains."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and _is_plain(layer, adapter):
            layer.forward = _forward(layer, adapter)


def remove(model: torch.nn.Module) -> None:
    """Give every layer PEFT's forward back."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.__dict__.pop("forward", None)


def _is_plain(layer: Any, adapter: str) -> bool:
    """Whether the adapter's layer is a low-rank product and nothing else, in the precision of the layer beneath it."""
    base = layer.get_base_layer()
    if adapter not in layer.lora_A or adapter in layer.lora_variant or type(base) is not torch.nn.Linear:
        return False
    has_dropout = not isinstance(layer.lora_dropout[adapter], torch.nn.Identity)
    weights = (layer.lora_A[adapter].weight, layer.lora_B[adapter].weight)
    has_bias = layer.lora_B[adapter].bias is not None
    return not has_dropout and not has_bias and all(weight.dtype == base.weight.dtype for weight in weights)


def _forward(layer: Any, adapter: str) -> Any:
    stock = layer.forward
    base, a, b = layer.get_base_layer(), layer.lora_A[adapter], layer.lora_B[adapter]

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or not layer.training:
            return stock(x, *args, **kwargs)
        return _LowRank.apply(x, base.weight, base.bias, a.weight, b.weight, layer.scaling[adapter])

    return forward
