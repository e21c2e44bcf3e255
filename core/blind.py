"""Who sits on which side and in which order, drawn so that nobody can know or move it, and what a vote then means.

Knows nothing of responses, journals or pages.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from core.stats import Outcome

NONCE_BYTES = 32

# A prompt's id, which of its draws, and whether both sides are base.
Pair = tuple[str, int, bool]


class Side(StrEnum):
    A = "A"
    B = "B"


class HumanVerdict(StrEnum):
    A = "A"
    B = "B"
    TIE = "tie"
    BOTH_BAD = "both_bad"
    SKIP = "skip"


UNDECIDED = {
    HumanVerdict.TIE: Outcome.TIE,
    HumanVerdict.BOTH_BAD: Outcome.TIE,
    HumanVerdict.SKIP: Outcome.NO_VERDICT,
}


def human_outcome(verdict: HumanVerdict, tuned_side: Side) -> Outcome:
    """What the vote says of the tuned model."""
    if verdict in UNDECIDED:
        return UNDECIDED[verdict]
    return Outcome.WIN if verdict.value == tuned_side.value else Outcome.LOSS


def draw_nonce() -> bytes:
    """256 bits that have nothing to do with any seed."""
    return secrets.token_bytes(NONCE_BYTES)


@dataclass(frozen=True)
class Item:
    """One pair to answer and decide on. A placebo is base against base: `tuned_side` is then its second draw's."""

    id: str
    prompt_id: str
    sample: int
    is_placebo: bool
    tuned_side: Side


def deal(nonce: bytes, prompt_ids: Sequence[str], samples: int, num_placebos: int) -> tuple[Item, ...]:
    """The items in the order in which they are shown: each prompt `samples` times, and `num_placebos` among them.

    Tuned sits on A for half of them, and so does a placebo's second draw; of an odd number the nonce gives one more.
    A pure function of its arguments, so that whoever learns the nonce afterwards can check everything.
    """
    real = [(prompt_id, sample, False) for prompt_id in prompt_ids for sample in range(samples)]
    chosen = sorted(prompt_ids, key=lambda prompt_id: _rank(nonce, "placebo", (prompt_id, 0, True)))
    placebos = [(prompt_id, 0, True) for prompt_id in chosen[:num_placebos]]
    on_a = _half(nonce, real) | _half(nonce, placebos)
    order = sorted(real + placebos, key=lambda pair: _rank(nonce, "order", pair))
    return tuple(
        Item(str(place), *pair, Side.A if pair in on_a else Side.B) for place, pair in enumerate(order, start=1)
    )


def _half(nonce: bytes, pairs: Sequence[Pair]) -> set[Pair]:
    shuffled = sorted(pairs, key=lambda pair: _rank(nonce, "side", pair))
    return set(shuffled[: (len(shuffled) + nonce[0] % 2) // 2])


def _rank(nonce: bytes, what: str, pair: Pair) -> bytes:
    return hashlib.sha256(nonce + json.dumps([what, *pair]).encode()).digest()


def commit(nonce: bytes, items: Sequence[Item]) -> str:
    """SHA-256, in hex, over the nonce's hex, a newline, and `as_line` of the items."""
    return hashlib.sha256(f"{nonce.hex()}\n{as_line(items)}".encode()).hexdigest()


def as_line(items: Iterable[Item]) -> str:
    """The items as one line of JSON with sorted keys."""
    return json.dumps([asdict(item) for item in items], sort_keys=True)


def seal(nonce: bytes) -> str:
    """The nonce so that it is not read by accident; it is the user's own file, so no more is wanted."""
    return base64.b64encode(b"sealed:" + nonce).decode()


def unseal(text: str) -> bytes:
    """The inverse of `seal`; ValueError where it is anything else."""
    nonce = base64.b64decode(text, validate=True).removeprefix(b"sealed:")
    if len(nonce) != NONCE_BYTES:
        raise ValueError("not a sealed nonce")
    return nonce
