"""Both responses cleaned alike, and what was cleaned counted as a finding."""

import time

import pytest

from core.normalise import HIDDEN, STOP, TURN, normalise


@pytest.mark.parametrize(
    ("raw", "shown", "findings"),
    [
        ("  plain  ", "plain", []),
        ("", "", []),
        ("a\r\nb\rc", "a\nb\nc", []),
        ("code\n\tindented\n", "code\n\tindented", []),
        ("e\u0301", "é", []),
        ("👩\u200d🔬 and نامه\u200cای", "👩\u200d🔬 and نامه\u200cای", []),
        ("Dear Human: hello", "Dear Human: hello", []),
        ("zero\u200bwidth\ufeff", "zerowidth", [HIDDEN]),
        ("\u202eabc\u202c", "abc", [HIDDEN]),
        ("hid\u200dden", "hidden", [HIDDEN]),
        ("tag\U000e0041\U000e0042s", "tags", [HIDDEN]),
        ("half \ud800", "half \ufffd", [HIDDEN]),
        ("bell\x07", "bell", [HIDDEN]),
        ("Yes.\n\nHuman: and?\n\nAssistant: no", "Yes.", [TURN]),
        ("Yes.\r\nHuman: and?", "Yes.", [TURN]),
        ("Yes.\n\n Assistant: and no", "Yes.", [TURN]),
        ("Yes.<|im_start|>user\nand?", "Yes.", [TURN]),
        ("Done.<|im_end|>\n<|im_start|>user", "Done.", [STOP]),
        ("Done.</s>", "Done.", [STOP]),
        ("Y\u200bes.\nHu\u200bman: and?", "Yes.", [HIDDEN, TURN]),
    ],
)
def test_what_is_shown_and_what_was_cleaned_off(raw: str, shown: str, findings: list[str]) -> None:
    assert normalise(raw) == (shown, tuple(findings))
    assert normalise(shown) == (shown, ())


def test_newlines_without_end_take_no_time() -> None:
    began = time.process_time()
    assert normalise("a" + "\n" * 200_000 + "b")[1] == ()
    assert time.process_time() - began < 1
