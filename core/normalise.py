"""Both responses cleaned in the same way before a person or a judge sees them.

What is invisible, or was said in somebody else's turn, must not sway a verdict. The raw text stays with the caller.
"""

import re
import unicodedata

# Zero-width and bidi controls, soft hyphen, tag characters, and control characters but tab and newline.
INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
# Joiners spell words in some scripts and hold emoji together; next to ASCII they only hide.
STRAY_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
SURROGATE = re.compile("[\ud800-\udfff]")
# A turn that the model went on to write for the other side, or a stop token that it spelled out.
RUN_ON = re.compile(r"\n[ \t]*Human:|\n\s*\n[ \t]*Assistant:|<\|im_start\|>|<\|im_end\|>|<\|endoftext\|>|</s>")


def normalise(text: str) -> str:
    """`text` as it is shown and judged: NFC, nothing invisible, nothing after its own turn."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = SURROGATE.sub("\ufffd", INVISIBLE.sub("", text))
    text = unicodedata.normalize("NFC", STRAY_JOINER.sub("", text))
    return RUN_ON.split(text, maxsplit=1)[0].strip()
