"""The form of a data set is found by itself, or taken from a user, and said in a sentence."""

import csv
import json
import re
from pathlib import Path

import pytest

from core import preferences
from core.columns import UnmappedColumns, find_form
from core.errors import DataError
from core.file_rows import Reason, Row
from core.messages import Message, Role, ask
from core.prompts import Prompt
from core.transcripts import PreferencePair
from core.vote_pairs import Decided, write_pairs

USER = [{"role": "user", "content": "Why?"}]
SO, NO = ([{"role": "assistant", "content": text}] for text in ("So.", "No."))
SHARED = [{"from": "human", "value": "Why?"}]
SAYS_SO = {"from": "gpt", "value": "So."}
PAIR = PreferencePair(ask("Why?"), "So.", "No.", 1)
REPLY = PreferencePair(ask("Why?"), "So.", "", 1)
ALONE = "without a rejected reply: SFT only."

FOUND = [
    (
        {"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."},
        "HH-RLHF transcripts: chosen and rejected.",
        PAIR,
    ),
    ({"prompt": "Why?", "chosen": "So.", "rejected": "No."}, "Columns prompt, chosen and rejected.", PAIR),
    ({"prompt": USER, "chosen": SO, "rejected": NO, "id": 7}, "Columns prompt, chosen and rejected.", PAIR),
    (
        {"prompt": "Why?", "chosen": USER + SO, "rejected": USER + NO, "messages": USER + SO, "score_chosen": 8.5},
        "Columns prompt, chosen and rejected.",
        PAIR,
    ),
    ({"chosen": USER + SO, "rejected": USER + NO, "source": "web"}, "Messages: chosen and rejected.", PAIR),
    (
        {"accepted": USER + SO, "negative": USER + NO},
        "Messages: accepted and negative, taken as chosen and rejected.",
        PAIR,
    ),
    (
        {"question": "Why?", "preferred": "So.", "dispreferred": "No."},
        "Columns question, preferred and dispreferred, taken as prompt, chosen and rejected.",
        PAIR,
    ),
    (
        {"Query": "Why?", "Response Chosen": "So.", "rejected-response": "No."},
        "Columns Query, Response Chosen and rejected-response, taken as prompt, chosen and rejected.",
        PAIR,
    ),
    (
        {"conversations": SHARED, "chosen": SAYS_SO, "rejected": {"from": "gpt", "value": "No."}},
        "Columns conversations, chosen and rejected, taken as prompt, chosen and rejected.",
        PAIR,
    ),
    (
        {"instruction": "Why?", "input": "", "output": "So."},
        f"Columns instruction, input and output, taken as prompt, input and chosen, {ALONE}",
        REPLY,
    ),
    (
        {"prompt": "Why?", "completion": "So."},
        f"Columns prompt and completion, taken as prompt and chosen, {ALONE}",
        REPLY,
    ),
    ({"prompt": "Why?", "messages": USER + SO}, f"Messages {ALONE}", REPLY),
    ({"conversations": [*SHARED, SAYS_SO]}, f"Messages {ALONE}", REPLY),
]  # fmt: skip


@pytest.mark.parametrize(("value", "found", "pair"), FOUND)
def test_a_form_is_found_said_and_read(value, found, pair):
    form = find_form("rows", [Row(1, value)])
    assert form.found == found
    assert form.pair(Row(1, value)) == pair
    assert form.is_paired is bool(pair.rejected)


def test_what_an_instruction_is_about_stands_below_it():
    value = {"instruction": "Put into French.", "input": "Good morning", "output": "Bonjour"}
    pair = find_form("rows", [Row(1, value)]).pair(Row(1, value))
    assert pair.prompt == ask("Put into French.\n\nGood morning")


def test_the_last_turn_of_messages_is_the_reply_and_the_system_text_stays():
    turns = [("system", "Be brief."), ("human", "Hi"), ("gpt", "Hello"), ("human", "Why?"), ("gpt", "So.")]
    value = {"conversations": [{"from": speaker, "value": text, "weight": None} for speaker, text in turns]}
    pair = find_form("rows", [Row(1, value)]).pair(Row(1, value))
    roles = [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER]
    assert pair.prompt == tuple(Message(role, text) for role, (_, text) in zip(roles, turns[:-1], strict=True))
    assert (pair.chosen, pair.rejected) == ("So.", "")


def test_one_row_without_a_rejected_reply_does_not_make_it_data_for_sft():
    rows = [Row(n, {"prompt": "Why?", "chosen": "So.", "rejected": "No." if n == 3 else None}) for n in range(1, 4)]
    assert find_form("rows", rows).found == "Columns prompt, chosen and rejected."


def test_rows_that_are_bad_have_their_form_all_the_same():
    same = {"question": "Why?", "chosen": "So.", "rejected": "So."}
    form = find_form("rows", [Row(1, same)])
    assert form.found == "Columns question, chosen and rejected, taken as prompt, chosen and rejected."
    with pytest.raises(DataError, match="chosen equals rejected"):
        form.pair(Row(1, same))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"chosen": "So.", "rejected": "No."}, "not a transcript"),
        ({"prompt": 7, "chosen": "So.", "rejected": "No.", "id": 1}, "something else where text belongs (int)"),
        ({}, "not a preference row (its columns: none)"),
    ],
)
def test_columns_that_have_their_names_already_are_not_asked_for(tmp_path, value, reason):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(value) + "\n")
    with pytest.raises(DataError, match=re.escape(f"the first is row 1, {reason}.")) as caught:
        preferences.read(str(path))
    assert not isinstance(caught.value, UnmappedColumns)


UNMAPPED = [
    {"q": "Why?", "good": "So.", "bad": "No."},
    {"topic": "Why?", "chosen": "So.", "rejected": "No."},
    {"question": {"text": "Why?"}, "answer_0": "So.", "answer_1": "No.", "output": 3},
]


@pytest.mark.parametrize("value", UNMAPPED)
def test_where_no_form_is_found_the_columns_are_listed_and_asked_for(tmp_path, value):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(value) + "\n")
    with pytest.raises(UnmappedColumns) as caught:
        preferences.read(str(path))
    *first, last = value
    assert caught.value.columns == tuple(value)
    assert str(caught.value) == (
        f"'{path}' has the columns {', '.join(first)} and {last}, and it does not show what they hold. "
        "Say which of them holds prompt, chosen and rejected."
    )


def test_a_thousand_columns_and_odd_names_make_a_short_sentence():
    value = {"x" * 500: 1, "\ud800": 2, "a\nb": 3, "": 4} | {f"c{n}": n for n in range(1000)}
    with pytest.raises(UnmappedColumns) as caught:
        find_form("rows", [Row(1, value)])
    assert caught.value.columns[:2] == ("x" * 500, "c0")
    assert "c18 and 981 more, and" in str(caught.value)
    assert len(str(caught.value).encode()) < 400


def save(path: Path, value: dict[str, str]) -> str:
    rows = [{name: f"{text} {number}" for name, text in value.items()} for number in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_a_user_says_beats_what_is_found(tmp_path):
    path = save(
        tmp_path / "rows.jsonl",
        {"prompt": "no", "chosen": "no", "rejected": "never", "q": "Why?", "a": "So.", "b": "No."},
    )
    data = preferences.read(path, held_out=0, columns={"prompt": "q", "chosen": "a", "rejected": "b"})
    assert data.train[0] == PreferencePair(ask("Why? 0"), "So. 0", "No. 0", 1)
    assert data.found == "Columns q, a and b, taken as prompt, chosen and rejected."
    alone = preferences.read(path, held_out=0, columns={"prompt": "q", "chosen": "a", "rejected": ""})
    assert (alone.train[0].rejected, alone.is_paired) == ("", False)
    assert preferences.read(path, held_out=0, columns={}).train[0].chosen == "no 0"


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"prompt": "q", "chosen": "c"}, "'{}' has no column 'c'. Its columns: q, a and b."),
        ({"prompt": "q", "rejected": "b"}, "Say which column holds the chosen reply. The columns of '{}': q, a and b."),
        ({"question": "q"}, "A column can hold prompt, chosen and rejected, not 'question'."),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(tmp_path, columns, sentence):
    path = save(tmp_path / "rows.jsonl", {"q": "Why?", "a": "So.", "b": "No."})
    with pytest.raises(DataError) as caught:
        preferences.read(path, columns=columns)
    assert str(caught.value) == sentence.format(path)


def test_a_row_without_the_mapped_columns_is_left_out_with_its_own(tmp_path):
    path = save(tmp_path / "rows.jsonl", {"q": "Why?", "a": "So.", "b": "No."})
    with Path(path).open("a") as file:
        file.write('{"chosen": "So.", "rejected": "No.", "prompt": "Why?"}\n')
    data = preferences.read(path, held_out=0, columns={"prompt": "q", "chosen": "a", "rejected": "b"})
    assert [(left.row, left.reason, left.detail) for left in data.left_out] == [
        (13, Reason.NOT_PREFERENCE, "its columns: chosen, rejected, prompt")
    ]


def test_votes_exported_from_a_comparison_are_pairs_as_they_are(tmp_path):
    several = (*ask("Hi"), Message(Role.ASSISTANT, "Hello"), *ask("And?"))
    asked = [Prompt(str(n), "own", f"Box {n}?") for n in range(9)] + [Prompt("9", "own", "And?", several)]
    decided = [Decided(one, "Apples.", "Who knows.") for one in asked]
    exported = write_pairs(decided, "human", tmp_path / "model_comparison_1.jsonl")
    data = preferences.read(str(exported.path), held_out=0)
    preferences.require_pairs(data)
    assert data.found == "Columns prompt, chosen and rejected."
    assert [pair.prompt for pair in data.train] == [one.conversation for one in asked]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_whatever_parts_its_cells(tmp_path, delimiter):
    path = tmp_path / "table.csv"
    lines = [
        ("prompt", "chosen", "rejected"),
        *((f"What is in box {n}", "Apples, red; ripe", "None") for n in range(9)),
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(lines)
    data = preferences.read(str(path), held_out=0)
    assert [pair.chosen for pair in data.train] == ["Apples, red; ripe"] * 9
