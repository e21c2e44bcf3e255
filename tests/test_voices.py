"""An adapter speaks as strongly as asked, in a batch as alone, and leaves nothing of it behind. In fp32, exactly."""

import contextlib
from pathlib import Path

import pytest
import torch

from core import loader, paths
from core.client import Turn
from core.device import Device
from core.errors import AdapterError, SettingError
from core.generate import answer
from core.loader import BASE, POLICY, ResidentModel
from core.messages import ask
from core.settings import Decoding, Method, Settings, Size
from tests.make_adapter import make_adapter

CPU = Device("cpu", torch.float32, "sdpa", "for tests")
GREEDY = Decoding(max_new_tokens=12, temperature=0.0)
PROMPTS = ("Where is the lamp?", "How many apples are left in the bowl, and who ate the others?")
STRENGTHS = (0.3, 0.65, 1.5)


@pytest.fixture
def resident(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> ResidentModel:
    """With the adapters `one` and `two`; collecting garbage takes longer than all the rest."""
    monkeypatch.setattr(loader, "release", lambda kind: None)
    paths.ensure_home()
    resident = ResidentModel(tiny_model_dir, CPU)
    for name, seed in (("one", 1), ("two", 2)):
        make_adapter(resident, name, seed)
        resident.attach(name)
    return resident


def says(resident: ResidentModel, *turns: Turn) -> list[str]:
    return [response.text for response in answer(resident, turns, GREEDY)]


@torch.no_grad()
def logits(resident: ResidentModel, contender: str, *strengths: float) -> torch.Tensor:
    with resident.speaking([contender], strengths):
        return resident.model(input_ids=resident._probe_ids, use_cache=False).logits


def policy_in_training(resident: ResidentModel) -> ResidentModel:
    resident.open_policy(Settings.of(Method.DPO, Size.SMALL, {"lora_rank": 4}))
    resident.model.train()
    return resident


def state(resident: ResidentModel) -> tuple[list, list, list]:
    layers = [(list(layer.active_adapters), dict(layer.scaling)) for layer in resident._layers]
    return (
        layers,
        [m.training for m in resident.model.modules()],
        [p.requires_grad for p in resident.model.parameters()],
    )


def test_strength_1_is_the_adapter_as_trained(resident):
    assert torch.equal(logits(resident, "one", 1.0), logits(resident, "one"))
    plain, full = Turn("one", ask(PROMPTS[0])), Turn("one", ask(PROMPTS[0]), 1)
    assert plain == full
    assert says(resident, plain) != says(resident, Turn(BASE, ask(PROMPTS[0])))


def test_strength_0_is_base_token_for_token(resident):
    assert torch.equal(logits(resident, "one", 0.0), logits(resident, BASE))
    for prompt in PROMPTS:
        asked = [Turn(who, ask(prompt), strength) for who, strength in (("one", 0.0), (BASE, 1.0), ("two", 1.0))]
        alone = says(resident, asked[1])
        assert says(resident, asked[0]) == alone
        assert says(resident, *asked)[:2] == alone * 2


def test_half_strength_is_an_adapter_of_half_its_alpha(resident):
    make_adapter(resident, "half", 1, lora_alpha=4)
    resident.attach("half")
    assert torch.equal(logits(resident, "one", 0.5), logits(resident, "half"))
    for prompt in PROMPTS:
        assert says(resident, Turn("one", ask(prompt), 0.5)) == says(resident, Turn("half", ask(prompt)))


def test_several_strengths_of_one_adapter_say_in_one_batch_what_each_says_alone(resident):
    turns = [Turn("one", ask(prompt), strength) for prompt in PROMPTS for strength in STRENGTHS]
    turns += [Turn(BASE, ask(PROMPTS[0])), Turn("two", ask(PROMPTS[0]), 0.5)]
    together = says(resident, *turns)
    assert together == [says(resident, turn)[0] for turn in turns]
    assert len(set(together)) == len(turns)


def test_an_error_in_the_middle_puts_everything_back(resident):
    before = state(policy_in_training(resident))
    with contextlib.suppress(ZeroDivisionError), resident.speaking([BASE, "one", "one"], [1.0, 0.5, 1.5]):
        assert not any(module.training for module in resident.model.modules())
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="zip"), resident.speaking([BASE, "one"], [0.5]):
        pass
    # Also one that would not speak.
    with pytest.raises(AdapterError), resident.speaking(["ghost"], [0.0]):
        pass
    assert state(resident) == before


def test_what_was_frozen_in_a_model_in_training_is_not_woken(resident):
    policy_in_training(resident)
    resident._layers[0].lora_dropout.eval()
    before = state(resident)
    logits(resident, "one", 0.5)
    assert state(resident) == before


def test_a_policy_in_training_learns_the_same_whoever_speaks_in_between(resident):
    policy_in_training(resident)

    def gradients() -> list[torch.Tensor]:
        resident.model.zero_grad()
        resident.model(input_ids=resident._probe_ids, labels=resident._probe_ids).loss.backward()
        return [p.grad.clone() for n, p in resident.model.named_parameters() if f".{POLICY}." in n]

    before = gradients()
    says(resident, *(Turn("one", ask(PROMPTS[0]), strength) for strength in STRENGTHS), Turn(POLICY, ask("Hi"), 0.5))
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(), strict=True))
    assert any(gradient.any() for gradient in before)


@pytest.mark.parametrize("bad", [float("nan"), 2.0, -0.1, "strong", None, True, 1e309])
def test_a_strength_that_is_none_cannot_be_asked_for(bad):
    with pytest.raises(SettingError, match=r"^Adapter strength must be a number from 0 to 1.5, not '"):
        Turn("one", ask("Hi"), bad)
