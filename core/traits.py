"""The trait that the starter pairs teach, as a program sees it: the response ends with exactly one next step."""

import re

LABEL = "Next step:"
# The last paragraph is one sentence behind the label: nothing after its final stop, no second sentence inside.
LAST_LINE = re.compile(rf"{LABEL} [^.!?\n]+[.!?]")


def ends_with_one_next_step(text: str) -> bool:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return bool(lines) and LAST_LINE.fullmatch(lines[-1]) is not None and text.lower().count("next step") == 1
