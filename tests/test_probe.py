"""Timing a model leaves no trace in it."""

import pytest
import torch

from core import forecast, probe
from core.loader import BASE, ResidentModel
from tests.make_adapter import make_adapter


def everything(resident: ResidentModel) -> tuple[list, dict, list]:
    flags = [(name, p.requires_grad, p.grad) for name, p in resident.model.named_parameters()]
    weights = {name: p.detach().clone() for name, p in resident.model.named_parameters()}
    answers = [resident._probe_logits(who) for who in (BASE, *resident.adapters)]
    return flags, weights, answers


@pytest.mark.parametrize("adapters", [(), ("one", "two")])
def test_weights_gradients_adapters_and_random_state_are_as_before(resident, adapters):
    for name in adapters:
        make_adapter(resident, name)
        resident.attach(name)
    flags, weights, answers = everything(resident)
    random, is_training, forward = torch.get_rng_state(), resident.model.training, resident.model.forward
    costs = probe.costs(resident)
    assert costs.forward.of(100) > 0
    assert costs.step.of(100) > 0
    new_flags, new_weights, new_answers = everything(resident)
    assert new_flags == flags
    assert all(torch.equal(new_weights[name], weight) for name, weight in weights.items())
    assert all(map(torch.equal, answers, new_answers))
    assert torch.equal(torch.get_rng_state(), random)
    assert resident.model.training == is_training
    assert resident.model.forward == forward
    resident.prove_base()


def test_a_larger_pass_is_timed_only_where_the_smaller_ones_are_over_at_once(resident, monkeypatch):
    seen = []
    monkeypatch.setattr(probe, "_seconds", lambda *args: seen.append(args[3:]) or 0.3)
    assert probe.costs(resident).step == forecast.Line(0.3, 0.0)
    assert seen == [(1, 2, 1), (1, 256, 1), (1, 256, 128), (1, 16, 1), (1, 256, 1), (1, 256, 128)]
    seen.clear()
    monkeypatch.setattr(probe, "_seconds", lambda *args: seen.append(args[3:]) or 0.01)
    probe.costs(resident)
    assert [shape for *shape, scored in seen if scored > 1] == [[8, 256], [8, 256]]


def test_a_token_that_is_scored_costs_what_it_takes_longer(resident, monkeypatch):
    monkeypatch.setattr(probe, "_seconds", lambda *args: 1 + 0.01 * args[3] * args[4] + 0.1 * args[3] * args[5])
    line = probe.costs(resident).step
    assert line.scored_s == pytest.approx(0.1)
    assert line.of(100, 20) == pytest.approx(1 + 1 + 2, rel=0.1)
