"""What a conversation's model has read already: keys and values by token, so that the next turn reads only what is new.

One entry a conversation and contender, unpadded on its own. Bounded, and empty while a run goes on: its memory is the
run's. Knows nothing of text: what is known again is the beginning that two token sequences share.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# Base and tuned, in two conversations; 131 kB a token on a 7B base.
MAX_CONVERSATIONS = 4
MAX_TOKENS = 8_192

# A contender, what tells one version of it from the next, and how strongly it speaks.
Speaker = tuple[str, str, float]


@dataclass(frozen=True)
class Read:
    """Tokens that a speaker has read, and of every layer the keys and values (heads, tokens, head size).

    The first `num_asked` of them are the prompt, the others what was said to it.
    """

    speaker: Speaker
    num_asked: int
    ids: list[int]
    layers: list[tuple[torch.Tensor, torch.Tensor]]

    def first(self, length: int) -> "Read":
        layers = [(keys[:, :length], values[:, :length]) for keys, values in self.layers]
        return Read(self.speaker, self.num_asked, self.ids[:length], layers)


class ChatCache:
    """The conversations read last, the oldest first."""

    def __init__(self) -> None:
        self._reads: list[Read] = []
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._reads)

    def find(self, speaker: Speaker, ids: Sequence[int]) -> Read | None:
        """The longest beginning of `ids` that is known, always less than all of it: a response needs one pass."""
        # Another version of a contender is another contender, and the one before does not come back.
        self._reads = [read for read in self._reads if read.speaker[0] != speaker[0] or read.speaker == speaker]
        lengths = [(_shared(read.ids, ids[:-1]), read) for read in self._reads if read.speaker == speaker]
        length, longest = max(lengths, key=lambda known: known[0], default=(0, None))
        return longest.first(length) if longest and length else None

    def add(self, read: Read) -> None:
        """Take the place of what this goes on from, and of the oldest where there is too much."""
        if self._is_closed or len(read.ids) > MAX_TOKENS:
            return
        self._reads = [known for known in self._reads if not _goes_on_from(read, known)] + [read]
        while len(self._reads) > MAX_CONVERSATIONS or sum(len(known.ids) for known in self._reads) > MAX_TOKENS:
            self._reads.pop(0)

    def clear(self) -> None:
        self._reads = []

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Empty, and it stays empty inside."""
        self.clear()
        self._is_closed = True
        try:
            yield
        finally:
            self._is_closed = False


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _goes_on_from(read: Read, known: Read) -> bool:
    """The next turn, or the last one once more; other conversations share but what their prompts begin with."""
    return read.speaker == known.speaker and _shared(read.ids, known.ids) >= known.num_asked


def fill(cache: Any, reads: Sequence[Read | None]) -> None:
    """Put the rows' reads into an empty cache, filled up on the left."""
    width = max((len(read.ids) for read in reads if read), default=0)
    if not width:
        return
    some = next(read for read in reads if read)
    for number, layer in enumerate(cache.layers):
        both = [like.new_zeros(len(reads), len(like), width, like.shape[-1]) for like in some.layers[number]]
        for row, read in enumerate(reads):
            for filled, known in zip(both, read.layers[number] if read else (), strict=False):
                filled[row, :, width - known.shape[1] :] = known
        layer.update(*both)


def taken(cache: Any, row: int, is_token: torch.Tensor, length: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A copy of one row of a cache, for `Read`: of those places (places,) that hold tokens, the first `length`."""
    places = is_token.nonzero()[:length, 0]
    return [(layer.keys[row][:, places], layer.values[row][:, places]) for layer in cache.layers]
