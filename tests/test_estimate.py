"""Time and memory before a run: the arithmetic holds what autograd keeps, and Mistral on Macs is as known."""

import dataclasses

import pytest
import torch

from core import estimate, fitting
from core.estimate import Job, Shape
from core.forecast import Costs, Forecast, Line
from core.runs import Phase
from core.settings import PINNED_MAX_NEW_TOKENS, Method, Settings, Size
from core.token_rows import TokenPair

GB = 1e9
GIB = 1024**3
MISTRAL = {
    "vocab_size": 32768, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip
STARTER = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3,
}  # fmt: skip
MISTRAL_SHAPE = Shape.of(MISTRAL, 7_248_023_552, 2)
STARTER_SHAPE = Shape.of(STARTER, 134_515_008, 4)


def settings(method: Method = Method.DPO, size: Size = Size.LARGE, **changes) -> Settings:
    return Settings.of(method, size, changes)


def rows(number: int, prompt: int, chosen: int, rejected: int) -> list[TokenPair]:
    return [TokenPair([1] * prompt, [2] * chosen, [3] * rejected)] * number


# Memory: what is counted is what autograd keeps


def saved_bytes(config: dict, dtype: torch.dtype, length: int, is_saving: bool, attention: str, device: str) -> float:
    """Bytes a token and layer that autograd holds after a forward pass of two rows with a LoRA of rank 16."""
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    with torch.device(device):
        model = MistralForCausalLM(MistralConfig(**config, sliding_window=None, attn_implementation=attention))
    lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = get_peft_model(model.to(dtype), lora).train()
    if is_saving:
        policy.gradient_checkpointing_enable()
        policy.enable_input_require_grads()
    own = {p.untyped_storage()._cdata for p in policy.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    ids = torch.zeros((2, length), dtype=torch.long, device=device)
    # Rows of one batch are padded, so that attention has a mask.
    mask = torch.zeros((2, 1, length, length), dtype=dtype, device=device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model.model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert out.last_hidden_state.requires_grad
    num_bytes = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
    return num_bytes / ids.numel() / config["num_hidden_layers"]


@pytest.mark.parametrize("length", [64, 256])
@pytest.mark.parametrize(
    ("config", "dtype", "attention", "device", "kind"),
    [
        (STARTER, torch.float32, "sdpa", "cpu", "cpu"),
        (STARTER, torch.float32, "eager", "meta", "mps"),
        (MISTRAL, torch.bfloat16, "eager", "meta", "mps"),
    ],
)
def test_what_is_counted_a_token_is_what_autograd_keeps(config, dtype, attention, device, kind, length):
    few = {**config, "num_hidden_layers": 4}
    shape = Shape.of(few, 0, dtype.itemsize)
    kept = saved_bytes(few, dtype, length, False, attention, device)
    assert estimate._kept(shape, 16, length, kind) / 4 == pytest.approx(kept, rel=0.04)


def test_checkpointing_keeps_what_goes_into_each_layer():
    few = {**MISTRAL, "num_hidden_layers": 4}
    kept = saved_bytes(few, torch.bfloat16, 64, True, "eager", "meta")
    last_norm = 4 * few["hidden_size"] / 4
    assert kept - last_norm == pytest.approx(2 * few["hidden_size"], rel=0.01)


def test_mistrals_adapter_optimiser_and_cache():
    parts = estimate.parts(MISTRAL_SHAPE, Job(Method.DPO, settings()), "mps")
    assert estimate.num_trainable(MISTRAL_SHAPE, settings()) == 41_943_040
    assert parts["weights"] == 14_496_047_104
    assert (parts["adapter"] + parts["optimiser"]) / GB == pytest.approx(0.67, rel=0.01)
    assert estimate._cached(MISTRAL_SHAPE) == 131_072


def test_mistrals_activations():
    def activations(**changes) -> float:
        job = Job(Method.DPO, settings(batch_size=1, max_length=512, **changes), is_shared=False)
        return estimate.parts(MISTRAL_SHAPE, job, "mps")["activations"] / GB

    # FACTS of its activations, "10 to 14 MB a token with eager attention" and "0.6 GB a pair with checkpointing".
    assert 10e-3 < activations() / 1024 < 14e-3
    assert activations(gradient_checkpointing=True) == pytest.approx(0.6, rel=0.15)


# What a Mac of so many GB gives to its GPU, in GiB, and what is known of Mistral-7B there
@pytest.mark.parametrize(
    ("limit", "pairs", "length", "is_saving", "fit"),
    [
        (10.7, 1, 128, True, fitting.WONT_FIT),
        (16, 1, 384, True, "tight"),
        (16, 1, 384, False, fitting.WONT_FIT),
        (21.3, 1, 512, True, "fits"),
        (21.3, 2, 512, True, "fits"),
        (21.3, 1, 512, False, fitting.WONT_FIT),
        (48, 2, 512, False, "fits"),
        (48, 4, 512, False, fitting.WONT_FIT),
        (48, 4, 512, True, "fits"),
    ],
)
def test_mistral_on_a_mac(limit, pairs, length, is_saving, fit):
    chosen = settings(batch_size=pairs, max_length=length, gradient_checkpointing=is_saving)
    needed = sum(estimate.parts(MISTRAL_SHAPE, Job(Method.DPO, chosen), "mps").values())
    assert fitting.fit(needed, int(limit * GIB)) == fit


def test_known_rows_need_what_the_longest_of_them_need():
    known = Job(
        Method.DPO, settings(batch_size=2), [*rows(30, 20, 10, 10), *rows(1, 300, 100, 50)], passages=rows(1, 1, 99, 1)
    )
    load = estimate.Load.of(known)
    assert (load.longest, load.trained, load.trained_scored) == (451, 2 * 451, 150 + 20)
    filled = estimate.Load.of(dataclasses.replace(known, pad_to=64))
    assert (filled.longest, filled.trained) == (512, 2 * 512)
    unknown = estimate.Load.of(Job(Method.DPO, settings(batch_size=2)))
    assert (unknown.longest, unknown.trained) == (769, 2 * 769)


def test_two_rows_a_pair_need_the_prompt_twice():
    twice = Job(Method.DPO, settings(batch_size=2), rows(30, 300, 100, 50), passages=rows(1, 1, 99, 1), is_shared=False)
    assert (estimate.Load.of(twice).longest, estimate.Load.of(twice).trained) == (400, 2 * 2 * 400)
    once = dataclasses.replace(twice, is_shared=True)
    assert [tokens / (2 * 451) for tokens, _ in once.batches()] == [tokens / 1600 for tokens, _ in twice.batches()]
    assert {scored for _, scored in once.batches() + twice.batches()} == {2 * 150}


def test_a_reference_that_was_measured_before_costs_nothing():
    job = Job(Method.DPO, settings(), rows(30, 30, 10, 10), passages=rows(1, 1, 99, 1))
    costs = Costs(Line(0, 1), Line(0, 1))
    assert estimate.forecast(costs, job).phases[Phase.REFERENCE] > 0
    kept = dataclasses.replace(job, is_reference_kept=True)
    assert estimate.forecast(costs, kept).phases[Phase.REFERENCE] == 0


def test_rows_without_a_rejected_reply_are_counted():
    job = Job(Method.SFT, settings(Method.SFT, batch_size=4), rows(9, 20, 10, 0), passages=rows(1, 1, 9, 1))
    assert (estimate.Load.of(job).trained, estimate.Load.of(job).trained_scored) == (4 * 30, 4 * 10)
    assert estimate.forecast(Costs(Line(0, 1), Line(0, 1)), job).phases[Phase.REFERENCE] == 0


def test_shorter_rows_leave_out_what_is_then_of_no_use():
    job = Job(Method.DPO, settings(), [*rows(5, 20, 10, 9), *rows(3, 200, 10, 9)])
    shorter = job.under(settings(max_length=128, lora_rank=4))
    assert len(shorter.train) == 5
    assert (shorter.settings.max_length, shorter.settings.lora_rank) == (128, 16)


def test_a_base_that_names_its_sizes_otherwise_has_no_shape():
    assert Shape.of({"n_layer": 12, "n_embd": 768, "vocab_size": 50257}, 1, 4) is None


# Time: the phases


def passes(**changes) -> Forecast:
    """Every pass forward costs a second, every step 100 s, whatever goes through."""
    job = Job(
        Method.DPO, settings(batch_size=4, accumulation=2, epochs=2, looks=5), rows(20, 40, 20, 20),
        rows(8, 40, 20, 20), rows(1, 1, 60, 1),
    )  # fmt: skip
    own = {name: changes.pop(name) for name in list(changes) if name in vars(job.settings)}
    job = dataclasses.replace(job, **changes, settings=dataclasses.replace(job.settings, **own))
    return estimate.forecast(Costs(Line(1, 0), Line(100, 0)), job)


def test_the_phases_count_the_passes_that_a_run_makes():
    answers = 1 + PINNED_MAX_NEW_TOKENS * estimate.SPEAKING_COST
    plain = passes()
    assert plain.phases[Phase.REFERENCE] == 1
    assert plain.phases[Phase.PINNED] == pytest.approx(answers)
    assert len(plain.steps_s) == 6
    assert plain.phases[Phase.TRAINING] == pytest.approx(2 * 5 * 100 * estimate.STEP_COST + 5 * (1 + answers))
    assert plain.phases[Phase.EVALUATING] == 2 + 2
    assert plain.phases[Phase.TRAIT] == 0
    assert plain.total_s == pytest.approx(sum(plain.phases.values()))


def test_what_is_not_asked_for_costs_nothing():
    assert passes(looks=0).phases[Phase.PINNED] == 0
    assert passes(looks=0).phases[Phase.TRAINING] == pytest.approx(2 * 5 * 100 * estimate.STEP_COST)
    assert passes(method=Method.SFT).phases[Phase.REFERENCE] == 0
    assert passes(held_out=[], looks=0).phases[Phase.EVALUATING] == 2
    assert passes(num_pinned=0, looks=5).phases[Phase.PINNED] == 0


def test_what_is_asked_for_besides_costs_more():
    plain = passes()
    assert passes(is_following=True).phases[Phase.EVALUATING] == plain.phases[Phase.EVALUATING] + 1
    assert passes(is_trait_counted=True).phases[Phase.TRAIT] > 2 * 128
    saving = passes(gradient_checkpointing=True, looks=0).phases[Phase.TRAINING]
    assert saving == pytest.approx(estimate.CHECKPOINTING_COST * passes(looks=0).phases[Phase.TRAINING])


def test_a_look_stands_at_the_step_after_which_it_is_taken():
    watched, plain = passes(looks=2).steps_s, passes(looks=0).steps_s
    assert [a > b for a, b in zip(watched, plain, strict=True)] == [False, False, True, False, False, True]
