"""Responses that stream side by side into a page, and the person's wish to stop them.

Knows the client's chunks and a session's id; no component and no wording. A session has one live
stream: a new one, a Stop or a closed page ends it. Gradio's own `cancels=` is not used, since it
leaves "Error" written over what was said so far.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from core.client import Chunk, EngineClient, Response, Turn
from core.settings import Decoding

# Faster than this nobody reads, and every update costs the browser a layout.
PAINT_EVERY_S = 0.06


@dataclass(frozen=True)
class Column:
    """One contender's response as far as it has come; `response` once it is whole."""

    text: str = ""
    response: Response | None = None
    is_stopped: bool = False

    def with_chunk(self, chunk: Chunk) -> "Column":
        if chunk.response is not None:
            return replace(self, text=chunk.response.text, response=chunk.response)
        return replace(self, text=self.text + chunk.text)

    def stopped(self) -> "Column":
        return self if self.response else replace(self, is_stopped=True)


class Streams:
    def __init__(self, client: EngineClient, clock: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._clock = clock
        # Session -> whom its live stream asks. The same ones asked again are another list.
        self._live: dict[str, list[str]] = {}

    def run(self, session: str, turns: Sequence[Turn], decoding: Decoding) -> Iterator[tuple[Column, ...]]:
        """The columns as they grow, the last of them final. The client's stream is closed whatever happens."""
        mine = [turn.contender for turn in turns]
        self._live[session] = mine
        columns = [Column() for _ in turns]
        painted_at = -PAINT_EVERY_S
        try:
            with closing(self.client.stream(turns, decoding)) as chunks:
                for chunk in chunks:
                    columns[chunk.row] = columns[chunk.row].with_chunk(chunk)
                    if self._live.get(session) is not mine:
                        break
                    if self._clock() - painted_at >= PAINT_EVERY_S:
                        painted_at = self._clock()
                        yield tuple(columns)
            yield tuple(column.stopped() for column in columns)
        finally:
            if self._live.get(session) is mine:
                del self._live[session]

    def stop(self, session: str, but: Sequence[str] = ()) -> None:
        """Whatever streams to this session ends at its next token, unless it is of just these contenders."""
        live = self._live.get(session)
        if live is not None and live != list(but):
            self._live.pop(session, None)

    def is_live(self, session: str) -> bool:
        return session in self._live
