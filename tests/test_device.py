"""The policy for devices nobody has at hand: every table row by pretending, every number by arithmetic."""

import sys
import threading

import psutil
import pytest
import torch
import torch.nn.functional as F

from core import device
from core.device import MemoryWatch, choose, own_randomness, self_test

SMALL = 135_000_000
LARGE = 7_248_023_552
GIB = 1024**3


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch):
    """A Mac whose GPU computes rightly, but for what is failed by name and dtype."""
    failed: dict[torch.dtype, set[str]] = {}
    monkeypatch.setattr(device.platform, "mac_ver", lambda: ("15.2", ("", "", ""), "arm64"))
    monkeypatch.setattr(device, "self_test", lambda kind, dtype: failed.get(dtype, set()))
    return failed


def memory_of(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    total = psutil.virtual_memory()._replace(total=int(gib * GIB))
    monkeypatch.setattr(device.psutil, "virtual_memory", lambda: total)


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_a_small_base_runs_in_full_precision_everywhere(mac, kind):
    chosen = choose(SMALL, kind)
    assert (chosen.kind, chosen.dtype, chosen.attention) == (kind, torch.float32, "sdpa")
    assert chosen.reason == "full precision: the model is small, so half precision would only cost digits"


@pytest.mark.parametrize(("computes", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_card_runs_a_large_base_in_half_precision_where_it_computes_in_it(monkeypatch, computes, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: computes)
    assert choose(LARGE, "cuda").dtype == dtype


@pytest.mark.parametrize(
    ("version", "dtype"),
    [
        ("14.0", torch.bfloat16),
        ("26.1", torch.bfloat16),
        ("13.6.1", torch.float32),
        ("", torch.float32),
    ],
)
def test_a_mac_runs_a_large_base_in_half_precision_from_macos_14_on(mac, monkeypatch, version, dtype):
    monkeypatch.setattr(device.platform, "mac_ver", lambda: (version, ("", "", ""), ""))
    chosen = choose(LARGE, "mps")
    assert chosen.dtype == dtype
    if dtype == torch.float32:
        assert chosen.reason == f"full precision: bfloat16 needs macOS 14, this is {version or 'unknown'}"


@pytest.mark.parametrize(("gib", "dtype"), [(64, torch.float32), (24, torch.bfloat16)])
def test_a_processor_takes_half_precision_only_where_full_does_not_fit(monkeypatch, gib, dtype):
    memory_of(monkeypatch, gib)
    assert choose(LARGE, "cpu").dtype == dtype


def test_fast_attention_that_leaks_is_not_used(mac):
    mac[torch.bfloat16] = {"attention"}
    chosen = choose(LARGE, "mps")
    assert (chosen.kind, chosen.dtype, chosen.attention) == ("mps", torch.bfloat16, "eager")
    assert chosen.reason.endswith("; plain attention, because the fast one failed its self-test")


def test_products_that_are_wrong_in_half_precision_are_made_in_full(mac):
    mac[torch.bfloat16] = {"linear", "attention"}
    chosen = choose(LARGE, "mps")
    assert (chosen.kind, chosen.dtype, chosen.attention) == ("mps", torch.float32, "sdpa")
    assert chosen.reason == "full precision: this Mac's GPU failed the matrix self-test in half precision"


@pytest.mark.parametrize("parameters", [SMALL, LARGE])
def test_products_that_are_wrong_in_full_precision_too_are_left_to_the_processor(mac, monkeypatch, parameters):
    memory_of(monkeypatch, 24)
    mac[torch.bfloat16] = mac[torch.float32] = {"linear"}
    chosen = choose(parameters, "mps")
    assert chosen.kind == "cpu"
    assert chosen.dtype == (torch.float32 if parameters == SMALL else torch.bfloat16)
    assert chosen.reason == "on the CPU: this Mac's GPU failed the matrix self-test"


# The self-test


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_self_test_passes_where_arithmetic_is_right(dtype):
    assert self_test("cpu", dtype) == set()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_self_test_sees_attention_that_looks_ahead(monkeypatch, dtype):
    stock = F.scaled_dot_product_attention

    def leaking(q, k, v, attn_mask=None, is_causal=False):
        return stock(q, k, v, attn_mask=attn_mask)

    monkeypatch.setattr(device.F, "scaled_dot_product_attention", leaking)
    assert self_test("cpu", dtype) == {"attention"}


def test_the_self_test_sees_products_that_differ_from_call_to_call(monkeypatch):
    stock, calls = F.linear, iter(range(99))
    monkeypatch.setattr(device.F, "linear", lambda x, weight: stock(x, weight) + 1e-6 * next(calls))
    assert self_test("cpu", torch.float32) == {"linear"}


def test_the_self_test_sees_products_that_depend_on_the_inputs_form(monkeypatch):
    stock = F.linear
    monkeypatch.setattr(device.F, "linear", lambda x, weight: stock(x, weight) * (2 if x.ndim == 3 else 1))
    assert self_test("cpu", torch.float32) == {"linear"}


@pytest.mark.parametrize("name", ["scaled_dot_product_attention", "linear"])
def test_the_self_test_sees_results_that_are_no_numbers(monkeypatch, name):
    stock = getattr(F, name)
    monkeypatch.setattr(device.F, name, lambda *args, **named: stock(*args, **named) * float("nan"))
    assert len(self_test("cpu", torch.float32)) == 1


def test_the_self_test_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    self_test("cpu", torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


# Memory


def test_a_processor_keeps_three_gigabytes_for_the_rest(monkeypatch):
    memory_of(monkeypatch, 16)
    assert device.memory_limit("cpu") == 13 * GIB
    memory_of(monkeypatch, 2)
    assert device.memory_limit("cpu") == 0


def test_gpus_say_their_own_limits(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 16 * GIB)
    assert device.memory_limit("cuda") == 24 * GIB
    assert device.memory_limit("mps") == 16 * GIB


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 10 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("Invalid buffer size: 30 GB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_no_room_is_known_from_what_each_device_says(error, is_it):
    assert device.is_out_of_memory(error) is is_it


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_what_was_freed_is_given_back():
    many = [torch.ones(20_000) for _ in range(3000)]
    kept = many[-1]  # lies above the rest
    del many
    held = device.memory_used("cpu")
    device.release("cpu")
    assert held - device.memory_used("cpu") > 200_000_000
    assert kept.sum() == 20_000


def test_the_watch_keeps_the_highest_of_what_it_saw():
    seen = threading.Event()
    values = iter([5, 70, 20])

    def read(kind: str) -> int:
        value = next(values, 6)
        if value == 6:
            seen.set()
        return value

    with MemoryWatch("cpu", read) as watch:
        assert watch.peak == 5
        assert seen.wait(10)
    assert watch.peak == 70


def test_the_watch_ends_with_its_block():
    with MemoryWatch("cpu") as watch:
        assert watch.peak > 10_000_000
        own = [thread for thread in threading.enumerate() if thread.name == "memory-watch"]
        assert own
    for thread in own:
        thread.join(10)
    assert not any(thread.is_alive() for thread in own)


# Randomness


def test_inside_a_seed_rules_and_outside_nothing_has_happened():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with own_randomness("cpu", 7):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_inside_puts_the_random_state_back_too(monkeypatch):
    states = []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: "as it was")
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), own_randomness("mps", 7):
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    assert states == ["as it was"]


def test_only_full_precision_on_the_processor_promises_the_same_bits():
    assert device.Device("cpu", torch.float32, "sdpa", "").is_exact
    assert not device.Device("cpu", torch.bfloat16, "sdpa", "").is_exact
    assert not device.Device("mps", torch.float32, "sdpa", "").is_exact
