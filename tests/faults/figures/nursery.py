"""A process in which a run takes a second: everything is imported there, and each try is a fork of it.

What a kill leaves behind is then what it would leave anywhere, and nothing of one try reaches the next.
"""

import atexit
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache

from core import paths, runs
from core.runs import RunStatus
from tests.faults.figures.figure import Tried

NUM_PAIRS = 32
NUM_STEPS = 8
# Dropout, so that a random state that was not restored shows; batches that are added up, so that kills fall between.
SETTINGS = {
    "learning_rate": 1e-3, "epochs": 1, "batch_size": 2, "accumulation": 2, "lora_rank": 4, "lora_dropout": 0.1,
    "max_length": 128, "checkpoint_every": 1, "looks": 0,
}  # fmt: skip
# What changes files, as Python tells of it.
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


# The process beside this one


@cache
def _nursery() -> ProcessPoolExecutor:
    home = tempfile.mkdtemp(prefix="faults-training-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _settle_in, (home,))


def _settle_in(home: str) -> None:
    os.environ |= {"PLAYGROUND_HOME": home, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    paths.ensure_home()


def beside(attempt: Callable[[int], Tried]) -> Callable[[int], Tried]:
    return lambda seed: _nursery().submit(attempt, seed).result()


@cache
def _resident():
    """The tiny Llama of the tests, everything imported that a run needs, and an adapter that no run may touch."""
    import gc

    import torch

    import core.trainer  # noqa: F401
    from core.device import Device
    from core.loader import ResidentModel
    from tests.conftest import CHATML, _save, _tokenizer
    from tests.make_adapter import make_adapter

    torch.set_num_threads(1)
    tokenizer = _tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], CHATML,
        bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>",
    )  # fmt: skip
    folder = _save("LlamaForCausalLM", "LlamaConfig", tokenizer, paths.base_dir() / "tiny", tie_word_embeddings=True)
    resident = ResidentModel(folder, Device("cpu", torch.float32, "sdpa", "for tests"))
    make_adapter(resident, "bystander")
    resident.attach("bystander")
    gc.collect()
    gc.freeze()
    return resident


def prepare(method: str, name: str) -> None:
    from core import run_request
    from core.client import RunRequest
    from tests.conftest import transcript_row

    resident, data = _resident(), paths.home() / "pairs.jsonl"
    data.write_text("".join(json.dumps(transcript_row(n)) + "\n" for n in range(1, NUM_PAIRS + 1)), encoding="utf-8")
    asked = RunRequest(method, str(data), run=name, held_out=0, settings=SETTINGS, pinned=())
    run_request.prepare(resident, *run_request.check(asked))


def child(does: Callable[[], int]) -> int:
    """The pid of a fork that does this and ends with what it returns."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        code = does()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """Its exit code, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# One run in a child


def train(name: str, is_resumed: bool) -> int:
    """Do the run with somebody chatting beside it: 0 where it finished and the other adapter is as it was."""
    from core import generate, run_progress, runner
    from core.messages import ask
    from core.settings import Decoding
    from core.wire import Turn

    resident, visits = _resident(), 0

    def chat() -> None:
        nonlocal visits
        visits += 1
        if visits % 4 == 0:
            turns = [Turn(contender, ask("Where is the tea?")) for contender in ("base", "bystander")]
            generate.answer(resident, turns, Decoding(max_new_tokens=2, temperature=1.0, seed=visits))

    before = _bits_of_bystander(resident)
    done = runner.execute(resident, name, run_progress.Control(serve=chat), is_resumed)
    if _bits_of_bystander(resident) != before:
        return 2
    return 0 if done.status is RunStatus.FINISHED else 1


def _bits_of_bystander(resident) -> list[bytes]:
    internal = resident.internal("bystander")
    named = resident.model.named_parameters()
    return [weight.detach().numpy().tobytes() for name, weight in named if f".{internal}." in name]


def weights(name: str) -> bytes:
    return (runs.adapter_dir(name) / "adapter_model.safetensors").read_bytes()


@cache
def whole_run(method: str) -> tuple[bytes, float, int]:
    """What an uninterrupted run comes to: its adapter, its seconds, and how often it changes files."""
    prepare(method, f"whole-{method}")
    count = paths.home() / f"changes-{method}"

    def counted() -> int:
        changes = [0]
        on_change(lambda: changes.__setitem__(0, changes[0] + 1))
        code = train(f"whole-{method}", is_resumed=False)
        count.write_text(str(changes[0]))
        return code

    began = time.monotonic()
    code = ended(child(counted))
    assert code == 0, f"the uninterrupted {method} run ended with {code}"
    return weights(f"whole-{method}"), time.monotonic() - began, int(count.read_text())


def on_change(does: Callable[[], None]) -> None:
    """Call `does` before each change of a file under the home; stays for the rest of this process."""
    home = str(paths.home())

    def hear(event: str, arguments: tuple) -> None:
        if event in CHANGES and str(arguments[0]).startswith(home) and (event != "open" or _is_writing(arguments)):
            does()

    sys.addaudithook(hear)


def _is_writing(arguments: tuple) -> bool:
    return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def what_is_wrong(name: str, adapter: bytes) -> str:
    run = runs.read_run(name)
    if run.status is not RunStatus.FINISHED:
        return f"it is {run.status}: {run.reason}"
    if weights(name) != adapter:
        return "its adapter is another one"
    logged = [row["step"] for row in runs.read_metrics(name)]
    return "" if logged == list(range(1, NUM_STEPS + 1)) else f"it has logged the steps {logged}"
