"""Engines on a tiny base, with three adapters that each have a voice of their own. No figure itself."""

import atexit
import functools
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core import paths
from core.client import EngineClient, EnginePhase, RunRequest

ADAPTERS = {"amber": {"seed": 1}, "birch": {"seed": 2, "target_modules": "attention"}, "cedar": {"seed": 3}}
DEADLINE_S = 120.0


def until(holds: Callable[[], object], what: str) -> None:
    end, tick = time.monotonic() + DEADLINE_S, threading.Event()
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} never came")
        tick.wait(0.01)


def loaded(base: Path):
    """The base in memory, apart from any engine's."""
    import torch

    from core.device import Device
    from core.loader import ResidentModel

    # Threads that wait for each other take several times the processor of a model this small.
    torch.set_num_threads(1)
    # As every engine does.
    torch.set_flush_denormal(True)
    return ResidentModel(base, Device("cpu", torch.float32, "sdpa", "for a figure"))


@functools.cache
def furnished() -> tuple[Path, Path, Path]:
    """A home, the tiny base and preference pairs, there until the process ends."""
    from tests import conftest
    from tests.make_adapter import make_adapter

    home = Path(tempfile.mkdtemp(prefix="faults-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    with at_home(home):
        paths.ensure_home()
        tokenizer = conftest._tokenizer(
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], conftest.CHATML,
            bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>",
        )  # fmt: skip
        base = home / "tiny-llama"
        # With small weights of a head that is the embedding's, base would say its last token for ever.
        conftest._save(
            "LlamaForCausalLM", "LlamaConfig", tokenizer, base, tie_word_embeddings=False, initializer_range=0.2
        )
        resident = loaded(base)
        for name, settings in ADAPTERS.items():
            make_adapter(resident, name, **settings)
    pairs = home / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(conftest.transcript_row(n)) + "\n" for n in range(1, 41)), encoding="utf-8")
    return home, base, pairs


@contextmanager
def at_home(home: Path) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_HOME", str(home))
        yield patch


@contextmanager
def living_engine() -> Iterator[EngineClient]:
    """Its client, once the base is loaded."""
    from tests.in_process import start_client

    home, base, _ = furnished()
    with at_home(home) as patch:
        client = start_client(str(base), patch)
        until(lambda: client.state().phase is EnginePhase.READY, "the engine")
        try:
            yield client
        finally:
            client.close()


def run_request(method: str, **changes: float) -> RunRequest:
    settings = {"learning_rate": 1e-2, "epochs": 1, "batch_size": 4, "accumulation": 1, "lora_rank": 4,
                "max_length": 256, "checkpoint_every": 100, **changes}  # fmt: skip
    return RunRequest(method, str(furnished()[2]), held_out=0, settings=settings, pinned=())
