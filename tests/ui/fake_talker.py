"""A client that talks: it answers at once, streams word by word, and remembers what it was asked."""

from collections.abc import Callable, Generator, Sequence

from core import paths, runs
from core.client import Chunk, EngineState, Response, RunRequest, Turn
from core.messages import Conversation
from core.settings import Decoding, Method
from tests.ui.fake_client import READY, FakeClient

# Nats a token, and no other figure on any page.
DRIFT = 0.21357


def words_of(turn: Turn) -> list[str]:
    """What the fake says: who it is to whom, so that a mix-up is seen, and longer where it is tuned."""
    said = f"{turn.contender} hears {turn.conversation[-1].content}".split()
    return said if turn.contender == "base" else [*said, "Next", "step:", "try", "it."]


class FakeTalker(FakeClient):
    """`on_word` is called before each streamed word, `on_answer` before each batch; either may raise.

    `words` is what it says to a turn.
    """

    def __init__(self, state: EngineState = READY) -> None:
        super().__init__(state)
        self.streamed: list[list[Turn]] = []
        self.answered: list[list[Turn]] = []
        self.decodings: list[Decoding] = []
        self.num_closed = 0
        self.on_word: Callable[[], None] = lambda: None
        self.on_answer: Callable[[], None] = lambda: None
        self.words: Callable[[Turn], list[str]] = words_of

    def answer(
        self, turns: Sequence[Turn], decoding: Decoding, on_progress: Callable[[int, int], None] = lambda *_: None
    ) -> list[Response]:
        self.answered.append(list(turns))
        self.decodings.append(decoding)
        self.on_answer()
        on_progress(len(turns), len(turns))
        said = [self.words(turn) for turn in turns]
        return [Response(" ".join(words), len(words)) for words in said]

    def drift(
        self,
        adapter: str,
        rows: Sequence[tuple[Conversation, str]],
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> list[float]:
        self._hear("drift", adapter, len(rows))
        on_progress(len(rows), len(rows))
        return [DRIFT] * len(rows)

    def stream(self, turns: Sequence[Turn], decoding: Decoding) -> Generator[Chunk, None, None]:
        self.streamed.append(list(turns))
        self.decodings.append(decoding)
        try:
            for row, turn in enumerate(turns):
                for word in words_of(turn):
                    self.on_word()
                    yield Chunk(row, f"{word} ")
                yield Chunk(row, "", Response(" ".join(words_of(turn)), len(words_of(turn))))
        finally:
            self.num_closed += 1

    @property
    def asked_of(self) -> list[tuple[str, str]]:
        """(contender, last message) of every turn that was answered, in order."""
        return [(turn.contender, turn.conversation[-1].content) for turns in self.answered for turn in turns]


class StrictTalker(FakeTalker):
    """Refuses a run as the engine does: before a base is asked anything."""

    def start_run(self, request: RunRequest) -> str:
        from core import run_request

        run_request.check(request)
        return super().start_run(request)


def make_adapter(name: str = "dpo-1122-1405") -> str:
    """A finished run's adapter, as far as the page looks at it."""
    runs.create(Method.DPO, name, base=paths.STARTER_NAME)
    folder = runs.adapter_dir(name)
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    return name
