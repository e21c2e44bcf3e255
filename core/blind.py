"""Who sits on which side, drawn so that nobody can know or move it, and what a vote means once it is known.

Knows nothing of responses, journals or pages.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from enum import StrEnum

from core.stats import Outcome

NONCE_BYTES = 32


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


def draw_sides(nonce: bytes, prompt_ids: Sequence[str]) -> dict[str, Side]:
    """Where tuned sits for each prompt: on A for half of them, shuffled; of an odd number the nonce gives one more.

    A pure function of the nonce, so that whoever learns it afterwards can check every side.
    """
    shuffled = sorted(prompt_ids, key=lambda prompt_id: hashlib.sha256(nonce + prompt_id.encode()).digest())
    on_a = set(shuffled[: (len(shuffled) + nonce[0] % 2) // 2])
    return {prompt_id: Side.A if prompt_id in on_a else Side.B for prompt_id in prompt_ids}


def commit(nonce: bytes, sides: Mapping[str, Side]) -> str:
    """SHA-256, in hex, over the nonce's hex, a newline, and the sides as JSON with sorted keys."""
    text = nonce.hex() + "\n" + json.dumps(dict(sides), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(nonce: bytes) -> str:
    """The nonce so that it is not read by accident; it is the user's own file, so no more is wanted."""
    return base64.b64encode(b"sealed:" + nonce).decode()


def unseal(text: str) -> bytes:
    """The inverse of `seal`; ValueError where it is anything else."""
    nonce = base64.b64decode(text, validate=True).removeprefix(b"sealed:")
    if len(nonce) != NONCE_BYTES:
        raise ValueError("not a sealed nonce")
    return nonce
