"""The real app in a process of its own, with its engine and a tiny model, talked to over plain HTTP.

Whatever its processes look up is written down, and nothing but loopback is found.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import psutil

from core import paths, starter
from core.runs import Run
from tests import conftest
from tests.faults.door import Endpoints, Outcome, Page, look, until

START_S, END_S = 180.0, 60.0
# Imported by every Python process that has its folder on the path, before anything else.
LOOKED_UP = """
import os, socket

look_up, found = socket.getaddrinfo, ("localhost", "::1", "0.0.0.0", "::", "")


def loopback_only(host, *arguments, **named):
    name = host.decode() if isinstance(host, bytes) else host or ""
    if name in found or name.startswith("127."):
        return look_up(host, *arguments, **named)
    with open(os.environ["LOOKED_UP"], "a") as file:
        file.write(name + "\\n")
    raise socket.gaierror(socket.EAI_NONAME, "there is no network")


def by_name(resolve):
    return lambda host: loopback_only(host, 0) and resolve(host)


socket.getaddrinfo = loopback_only
for resolver in ("gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
    setattr(socket, resolver, by_name(getattr(socket, resolver)))
"""
# Quick on two cores, and long enough to be met on the way.
SMALL = {"limit": 16, "held-out": "0", "setting-looks": 0, "setting-max_length": 128, "setting-checkpoint_every": 5}


@cache
def tiny_base() -> Path:
    """The tiny Llama of the other tests, saved once a process, and taken for the starter model."""
    tokenizer = conftest._tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], conftest.CHATML,
        bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>",
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="tiny-")) / "tiny-llama"
    conftest._save("LlamaForCausalLM", "LlamaConfig", tokenizer, folder, tie_word_embeddings=True)
    files = {file.name: file.stat().st_size for file in folder.iterdir()}
    paths.write_json(folder / starter.SOURCE, {"wheel_sha256": starter.WHEEL_SHA256, "files": files})
    return folder


def make_home(folder: Path, base: Path | None) -> Path:
    """A home whose starter model is `base`, or that has none."""
    link = folder / "models" / "base" / paths.STARTER_NAME
    link.parent.mkdir(parents=True, exist_ok=True)
    if base is not None and not link.exists():
        link.symlink_to(base)
    return folder


@dataclass
class RealApp:
    """`said` is all that it has printed so far."""

    home: Path
    process: subprocess.Popen[str]
    url: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def page(self) -> Page:
        return Page(self.url)

    def processes(self) -> list[psutil.Process]:
        """Itself, and what it has started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def looked_up(self) -> list[str]:
        return (self.home / "looked_up").read_text().split()

    def call(self, elem_id: str, session: str = "", **changed: Any) -> Outcome:
        return Endpoints(self.page).call(elem_id, session, **changed)

    def view(self, session: str = "", elem_id: str = "") -> str:
        """What a page that is opened just now shows, or one element of it."""
        return look(self.page, session or secrets.token_hex(6), elem_id)

    def wait_for_engine(self) -> None:
        until(lambda: "on cpu" in self.view(), START_S, "a model that is loaded")

    def start_run(self, **changed: Any) -> str:
        """The name of a small run that has been started from the page."""
        before = set(self.runs())
        outcome = self.call("start", **SMALL | changed)
        assert outcome.is_done, outcome
        assert set(self.runs()) - before, outcome
        return (set(self.runs()) - before).pop()

    def runs(self) -> dict[str, Run]:
        with at_home(self.home):
            from core import runs

            return {run.name: run for run in runs.list_runs()}

    def run(self, name: str) -> Run:
        return self.runs()[name]

    def wait_for_step(self, name: str, step: int) -> None:
        until(lambda: self.run(name).step >= step or not self.run(name).is_alive, START_S, f"step {step} of {name}")

    def wait_for_end(self, name: str) -> Run:
        until(lambda: not self.run(name).is_alive, START_S, f"the end of {name}")
        return self.run(name)

    def kill(self) -> list[psutil.Process]:
        """SIGKILL to the page's process alone; its engine is what is left."""
        _, *rest = self.processes()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return rest


@contextlib.contextmanager
def at_home(home: Path) -> Iterator[None]:
    """What is read and written inside is that home's."""
    before = os.environ.get("PLAYGROUND_HOME")
    os.environ["PLAYGROUND_HOME"] = str(home)
    try:
        yield
    finally:
        del os.environ["PLAYGROUND_HOME"]
        os.environ |= {} if before is None else {"PLAYGROUND_HOME": before}


def environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    watch = home / "watch"
    watch.mkdir(exist_ok=True)
    (watch / "sitecustomize.py").write_text(LOOKED_UP)
    (home / "looked_up").touch()
    own = {
        "PLAYGROUND_HOME": str(home), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(watch),
        "LOOKED_UP": str(home / "looked_up"),
    }  # fmt: skip
    return {**os.environ, **dict.fromkeys(conftest.KEYS, ""), **own, **more}


def spawn(home: Path, *flags: str, **more: str) -> RealApp:
    """The app as it is being started."""
    command = [sys.executable, "playground.py", "--no-browser", "--port", "0", *flags]
    process = subprocess.Popen(
        command, cwd=paths.PROJECT_ROOT, env=environment(home, more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", umask=0o022,
    )  # fmt: skip
    return RealApp(home, process)


@contextlib.contextmanager
def running(home: Path, *flags: str, **more: str) -> Iterator[RealApp]:
    """The app once it answers, until it is left; one that has been killed meanwhile is gone already."""
    app = spawn(home, *flags, **more)
    try:
        _wait_for_url(app)
        yield app
    finally:
        if app.process.poll() is None:
            app.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                app.process.wait(timeout=END_S)
        if app.process.poll() is None:
            app.process.kill()


def _wait_for_url(app: RealApp) -> None:
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        assert app.process.stdout is not None
        for line in app.process.stdout:
            app.said.append(line)
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while not app.url:
        try:
            line = lines.get(timeout=START_S)
        except Empty:
            line = ""
        assert line, f"the app did not say where it answers, but: {''.join(app.said)}"
        found = re.search(r"http://[\w.]+:\d+/", line)
        app.url = found[0] if found else ""
