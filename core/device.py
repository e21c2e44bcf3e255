"""Which device, which precision, which attention, and how much memory there is: the whole policy, with its reasons.

| device | small base (< 0.5 B) | large base |
|---|---|---|
| CUDA | float32 | bfloat16 where the card computes in it, else float32 |
| MPS  | float32 | bfloat16 from macOS 14 on, else float32 |
| CPU  | float32 | float32, or bfloat16 where float32 does not fit |

A small base gains nothing from half precision and loses digits. In half precision the base is frozen
and the adapter stays in float32, so training needs neither autocast nor a gradient scaler.
"""

import contextlib
import ctypes
import gc
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import psutil
import torch
import torch.nn.functional as F

from core.settings import SMALL_BELOW_PARAMETERS

# What the system, the page and the libraries need beside the model on a machine without memory of the device's own.
RESERVED_BYTES = 3 * 1024**3
MACOS_WITH_BFLOAT16 = 14
SAMPLE_S = 0.05


@dataclass(frozen=True)
class Device:
    """Where a base runs and how, with the sentence that says why."""

    kind: str
    dtype: torch.dtype
    attention: str
    reason: str

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def is_exact(self) -> bool:
        """Whether the same computation gives the same bits here."""
        return self.kind == "cpu" and self.dtype == torch.float32


def best_kind() -> str:
    # What accelerate hands to a program that it was told to launch on the CPU.
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose(num_parameters: int, kind: str | None = None) -> Device:
    """The device, dtype and attention for a base of this many parameters."""
    # Where DPO is sure of itself its gradients fall below the normal numbers, and a processor multiplies those up to a
    # hundred times slower: they count as nought.
    torch.set_flush_denormal(True)
    kind = kind or best_kind()
    dtype, reason = _precision(kind, num_parameters)
    if kind != "mps":
        return Device(kind, dtype, "sdpa", reason)
    failed = self_test(kind, dtype)
    if "linear" in failed and dtype != torch.float32:
        dtype, reason = torch.float32, "full precision: this Mac's GPU failed the matrix self-test in half precision"
        failed = self_test(kind, dtype)
    if "linear" in failed:
        dtype, _ = _precision("cpu", num_parameters)
        return Device("cpu", dtype, "sdpa", "on the CPU: this Mac's GPU failed the matrix self-test")
    if "attention" in failed:
        return Device(kind, dtype, "eager", reason + "; plain attention, because the fast one failed its self-test")
    return Device(kind, dtype, "sdpa", reason)


def _precision(kind: str, num_parameters: int) -> tuple[torch.dtype, str]:
    if num_parameters < SMALL_BELOW_PARAMETERS:
        return torch.float32, "full precision: the model is small, so half precision would only cost digits"
    if kind == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "half precision: the card computes in bfloat16"
        return torch.float32, "full precision: this card does not compute in bfloat16"
    if kind == "mps":
        return _mps_precision()
    if 4 * num_parameters > memory_limit(kind):
        return torch.bfloat16, "half precision: full precision does not fit in memory"
    return torch.float32, "full precision: processors compute it faster than half precision"


def _mps_precision() -> tuple[torch.dtype, str]:
    version = platform.mac_ver()[0]
    if int(version.partition(".")[0] or 0) >= MACOS_WITH_BFLOAT16:
        return torch.bfloat16, "half precision: bfloat16 halves the memory and keeps float32's range"
    return torch.float32, f"full precision: bfloat16 needs macOS {MACOS_WITH_BFLOAT16}, this is {version or 'unknown'}"


def self_test(kind: str, dtype: torch.dtype) -> set[str]:
    """Names of the operations that compute wrongly here; some MPS releases did so without a word.

    `attention`: causal attention equals attention under the same mask written out.
    `linear`: a matrix product gives the same twice, and the same for 3-D and 2-D input.
    """
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 4, 33, 64, generator=draw).to(kind, dtype) for _ in range(3))
    mask = torch.ones(33, 33, dtype=torch.bool, device=kind).tril()
    causal = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    x = torch.randn(2, 65, 128, generator=draw).to(kind, dtype)
    weight = torch.randn(256, 128, generator=draw).to(kind, dtype)
    once, again = F.linear(x, weight), F.linear(x, weight)
    flat = F.linear(x.flatten(0, 1), weight).view_as(once)
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    failed = set()
    if not torch.allclose(causal, masked, atol=tolerance, rtol=tolerance):
        failed.add("attention")
    if not torch.equal(once, again) or not torch.allclose(once, flat, atol=tolerance, rtol=tolerance):
        failed.add("linear")
    return failed


def memory_limit(kind: str) -> int:
    """Bytes that model, adapter and training may take together on this device."""
    if kind == "cuda":
        return int(torch.cuda.mem_get_info()[1])
    if kind == "mps":
        return int(torch.mps.recommended_max_memory())
    return max(psutil.virtual_memory().total - RESERVED_BYTES, 0)


def memory_free(kind: str) -> int:
    """Bytes that nobody has taken."""
    if kind == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if kind == "mps":
        return memory_limit(kind) - memory_used(kind)
    available, process = int(psutil.virtual_memory().available), psutil.Process()
    if not hasattr(process, "rlimit"):  # outside Linux
        return available
    # Somebody may have allowed this process less than there is (ulimit -v).
    allowed = process.rlimit(psutil.RLIMIT_AS)[0]
    return available if allowed == psutil.RLIM_INFINITY else min(available, max(allowed - process.memory_info().vms, 0))


def memory_used(kind: str) -> int:
    """Bytes taken now: the driver's on a GPU, the resident set on the CPU."""
    if kind == "cuda":
        return int(torch.cuda.memory_allocated())
    if kind == "mps":
        return int(torch.mps.driver_allocated_memory())
    return int(psutil.Process().memory_info().rss)


def release(kind: str) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
    elif sys.platform == "linux":
        # What was freed stays in the C library's heap, gigabytes of it after a run, until it is told to give it back.
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


# What the allocators of CUDA, MPS and the CPU say when there is no room.
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "invalid buffer size",
)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(text in str(error).lower() for text in OUT_OF_MEMORY)


class MemoryWatch:
    """The highest `memory_used` while it is open; CUDA counts for itself, elsewhere a thread samples."""

    def __init__(self, kind: str, read: Callable[[str], int] = memory_used) -> None:
        self.kind = kind
        self.read = read
        self.peak = 0
        self._done = threading.Event()

    def __enter__(self) -> Self:
        if self.kind == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.sample()
        threading.Thread(target=self._watch, name="memory-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.sample()

    def sample(self) -> None:
        now = torch.cuda.max_memory_allocated() if self.kind == "cuda" else self.read(self.kind)
        self.peak = max(self.peak, int(now))

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.sample()


@contextlib.contextmanager
def own_randomness(kind: str, seed: int) -> Iterator[None]:
    """Draw from `seed` inside, and leave every device's random state as it was: training draws from it too."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if kind == "cuda" else [], device_type="cuda"):
        mps_state = torch.mps.get_rng_state() if kind == "mps" else None
        torch.manual_seed(seed)
        try:
            yield
        finally:
            if mps_state is not None:
                torch.mps.set_rng_state(mps_state)
