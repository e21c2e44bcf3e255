"""One judge at a fake Gemini on a fake clock, and what the tests of both ask it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.gemini import Gemini
from core.judge import DEFAULT_MODEL, Judge, JudgeOutcome
from core.prompts import Prompt
from tests.fake_clock import FakeClock
from tests.fake_gemini import FakeGemini, Reply

CANARY = "AIzaCanary-0123456789-abcdefghijklmnop"
PROMPT = Prompt("p1", "everyday", "How do I boil an egg?")
BASE, TUNED = "Put it in water.", "Boil it for seven minutes. Next step: set a timer."


@dataclass(frozen=True)
class Asking:
    server: FakeGemini
    clock: FakeClock

    def judge(self, draw: Callable[[], float] = lambda: 0.5, timeout_s: float = 60) -> Judge:
        return Judge(Gemini(CANARY, DEFAULT_MODEL, self.server.url, self.clock, self.clock.sleep, draw, timeout_s))

    def __call__(self, *script: Reply, base: str = BASE, tuned: str = TUNED, prompt: Prompt = PROMPT) -> JudgeOutcome:
        """A new judge's verdict on a pair, the server replying as scripted."""
        self.server.script = list(script)
        return self.judge().judge_pair(prompt, base, tuned)

    @property
    def times(self) -> list[float]:
        return [asked.at for asked in self.server.asked]


@contextmanager
def asking() -> Iterator[Asking]:
    clock = FakeClock()
    with FakeGemini(clock=clock) as server:
        yield Asking(server, clock)
