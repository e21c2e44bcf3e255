"""Both responses cleaned in the same way before a person or a judge sees them, and what had to be cleaned.

What is invisible, or was said in somebody else's turn, must not sway a verdict.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

# Zero-width and bidi controls, soft hyphen, tag characters, and control characters but tab and newline.
INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
# Joiners spell words in some scripts and hold emoji together; next to ASCII they only hide.
STRAY_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
SURROGATE = re.compile("[\ud800-\udfff]")
# A turn that the model went on to write for the other side, or a stop token that it spelled out.
RUN_ON = re.compile(
    r"(?P<turn>\n[ \t]*Human:|\n[^\S\n]*\n[ \t]*Assistant:|<\|im_start\|>)|<\|im_end\|>|<\|endoftext\|>|</s>"
)
HIDDEN: Final = "hidden characters"
TURN: Final = "run-on turn"
STOP: Final = "stop token"


@dataclass(frozen=True)
class Answer:
    """A response: as it came, as it is shown and judged, and what was cleaned off: of HIDDEN, TURN and STOP."""

    raw: str
    text: str
    num_tokens: int
    is_cut: bool
    note: str
    findings: tuple[str, ...]


def normalise(raw: str) -> tuple[str, tuple[str, ...]]:
    """NFC, nothing invisible, nothing after its own turn; and the findings, each once, of which spaces are none."""
    text = raw.replace("\r\n", "\n").replace("\r", "\n")
    visible = SURROGATE.sub("\ufffd", STRAY_JOINER.sub("", INVISIBLE.sub("", text)))
    findings = [HIDDEN] if visible != text else []
    visible = unicodedata.normalize("NFC", visible)
    if end := RUN_ON.search(visible):
        findings.append(TURN if end["turn"] else STOP)
        visible = visible[: end.start()]
    return visible.strip(), tuple(findings)
