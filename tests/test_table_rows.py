"""CSV and Parquet: the same rows as from JSON, and never a shifted, guessed or half-read one."""

from pathlib import Path

import pytest

from core import preferences
from core.errors import DataError
from core.file_rows import Reason
from core.messages import Message, Role, ask
from core.transcripts import PreferencePair
from tests.cheap_refusal import on_linux, refused_cheaply

HEADER = "prompt,chosen,rejected\n"
LINES = [f"Box {number}?,Apples.,Who knows.\n" for number in range(12)]


def save(tmp_path: Path, *lines: str | bytes, name: str = "rows.csv") -> str:
    path = tmp_path / name
    path.write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return str(path)


def left_out(data: preferences.PreferenceData) -> list[tuple]:
    return [(left.row, left.reason) for left in data.left_out]


# CSV


def test_a_csv_of_a_spreadsheet_is_read_as_it_is_meant(tmp_path):
    lines = [line.replace("\n", "\r\n") for line in [HEADER, *LINES]]
    path = save(tmp_path, b"\xef\xbb\xbf", *lines, "\r\n", '"Why, ""how""\nand when?",NA,\u00e9\r\n')
    data = preferences.read(path, held_out=0)
    assert data.found == "Columns prompt, chosen and rejected."
    assert (data.num_rows, data.left_out) == (13, ())
    assert data.train[0] == PreferencePair(ask("Box 0?"), "Apples.", "Who knows.", 2)
    assert data.train[-1] == PreferencePair(ask('Why, "how"\nand when?'), "NA", "\u00e9", 15)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Why?,So.\n", Reason.RAGGED),
        ("Why?,So.,No.,Never.\n", Reason.RAGGED),
        ('Why?,"So" he said.,No.\n', Reason.NOT_CSV),
        ("Why?,So.\rsaid he,No.\n", Reason.NOT_CSV),
        (b"Why?,caf\xe9,No.\n", Reason.NOT_UTF8),
        ("Why?,,No.\n", Reason.EMPTY_REPLY),
        ("Why?,So.,So.\n", Reason.SAME_REPLY),
        ("Box 3?,Apples.,Who knows.\n", Reason.DUPLICATE),
    ],
)
def test_a_bad_row_of_a_csv_is_left_out_with_its_line_and_no_other(tmp_path, line, reason):
    data = preferences.read(save(tmp_path, HEADER, *LINES[:5], '"Of two\nlines",a,b\n', line, *LINES[5:]), held_out=0)
    assert left_out(data) == [(9, reason)]
    assert len(data.train) == 13


def test_a_ragged_row_says_how_many_cells_it_has(tmp_path):
    data = preferences.read(save(tmp_path, HEADER, *LINES, "Why?,So.\n"), held_out=0)
    assert [left.detail for left in data.left_out] == ["2 cells, 3 columns"]


OPEN = (
    "A quote at line 7 of {} is left open. Close the quote that is open there, "
    'and write quotes inside a cell twice ("").'
)


@pytest.mark.parametrize("rest", [[], LINES[5:], ['"Why?","So.","No."\n']])
def test_a_quote_left_open_names_its_line(tmp_path, rest):
    path = save(tmp_path, HEADER, *LINES[:5], 'Why?,So.,"No.\n', *rest)
    with pytest.raises(DataError) as caught:
        preferences.read(path)
    assert str(caught.value) == OPEN.format(path)


def test_the_rows_before_an_open_quote_can_be_had(tmp_path):
    path = save(tmp_path, HEADER, *LINES, 'Why?,So.,"No.\n')
    assert preferences.read(path, limit=12, held_out=0).num_rows == 12


MESSAGES = '"[{""role"": ""user"", ""content"": ""Box %d?""}, {""role"": ""assistant"", ""content"": ""%s""}]"'


def test_cells_that_hold_messages_as_json_are_messages(tmp_path):
    lines = [f"{MESSAGES % (n, 'Apples.')},{MESSAGES % (n, 'No.')}\n" for n in range(12)]
    data = preferences.read(save(tmp_path, "chosen,rejected\n", *lines), held_out=0)
    assert data.found == "Messages: chosen and rejected."
    assert data.train[3] == PreferencePair(ask("Box 3?"), "Apples.", "No.", 5)


@pytest.mark.parametrize("text", ["[1, 2]", "[]", "[so", "[" * 100_000, '[{""name"": ""a""}]'])
def test_cells_that_only_look_like_lists_stay_text(tmp_path, text):
    data = preferences.read(save(tmp_path, HEADER, *LINES, f'Why?,"{text}",No.\n'), held_out=0)
    assert data.train[-1].chosen == text.replace('""', '"')


REFUSED = {
    "empty.csv": (b"", "holds no rows"),
    "header.csv": (HEADER.encode(), "holds no rows"),
    "utf16.csv": ((HEADER + LINES[0]).encode("utf-16"), "UTF-16"),
    "nul.csv": (HEADER.encode() + b"a,\0,c\n", "NUL byte at offset 25"),
    "lfs.csv": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "latin1.csv": (b"fran\xe7ais,chosen\na,b\n", "The header of .* cannot be read: bytes that are not UTF-8"),
    "mac.csv": (b"prompt,chosen\ra,b\r", "The header of .* cannot be read: not valid CSV"),
    "twice.csv": (b"chosen,rejected,chosen\na,b,c\n", "has two columns named 'chosen'"),
    "pipes.csv": (b"prompt|chosen\na|b\n", r"has the columns prompt\|chosen, and it does not show"),
    "one.csv": ((HEADER + LINES[0]).encode(), "gives 1 usable rows to train on, and at least 8 are needed"),
    "lfs.parquet": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "empty.parquet": (b"", "is no Parquet file, or a damaged one"),
    "text.parquet": (HEADER.encode(), "is no Parquet file, or a damaged one"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_one_sentence(tmp_path, name):
    content, words = REFUSED[name]
    path = save(tmp_path, content, name=name)
    with pytest.raises(DataError, match=words) as caught:
        preferences.read(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@on_linux
@pytest.mark.parametrize(
    ("start", "piece", "words"),
    [('"', "x", "Line 2 of"), ('"', "xxx\n", "The row at line 2 of"), ("", '"\n",', "The row at line 2 of")],
    ids=["line", "cell", "cells"],
)
def test_a_row_of_a_hundred_megabytes_costs_neither_time_nor_memory(tmp_path, start, piece, words):
    path = save(tmp_path, HEADER, start, piece * (100 * 2**20 // 4))
    said = refused_cheaply(path)
    assert words in said
    assert "is longer than 4,194,304 bytes." in said


# Parquet


def save_parquet(path: Path, columns: dict, **named) -> str:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, **named)
    return str(path)


def turns(question: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def test_parquet_gives_texts_and_nested_messages(tmp_path):
    texts = {
        "question": [f"Box {n}?" for n in range(12)],
        "chosen": ["Apples."] * 12,
        "rejected": ["No."] * 11 + [None],
    }
    data = preferences.read(save_parquet(tmp_path / "texts.parquet", texts), held_out=0)
    assert data.found == "Columns question, chosen and rejected, taken as prompt, chosen and rejected."
    assert data.train[3] == PreferencePair(ask("Box 3?"), "Apples.", "No.", 4)
    assert left_out(data) == [(12, Reason.NOT_TEXT)]
    nested = {"messages": [turns(f"Box {n}?", "Apples.") for n in range(12)], "score": [0.5] * 12}
    data = preferences.read(save_parquet(tmp_path / "NESTED.PARQUET", nested, row_group_size=5), limit=10, held_out=2)
    assert data.train[-1] == PreferencePair((Message(Role.USER, "Box 9?"),), "Apples.", "", 10)
    assert [pair.row for pair in data.held_out] == [11, 12]


def test_a_text_of_other_bytes_is_left_out(tmp_path):
    import pyarrow

    texts = [b"Apples."] * 11 + [b"caf\xe9"]
    offsets = [sum(map(len, texts[:n])) for n in range(13)]
    chosen = pyarrow.Array.from_buffers(
        pyarrow.string(),
        12,
        [None, pyarrow.array(offsets, pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"".join(texts))],
    )
    columns = {"prompt": [f"Box {n}?" for n in range(12)], "chosen": chosen, "rejected": ["No."] * 12}
    assert left_out(preferences.read(save_parquet(tmp_path / "rows.parquet", columns), held_out=0)) == [
        (12, Reason.NOT_UTF8)
    ]


def test_a_damaged_parquet_file_is_one_sentence(tmp_path):
    columns = {"prompt": [f"Box {n}?" for n in range(500)], "chosen": ["Apples."] * 500, "rejected": ["No."] * 500}
    whole = Path(save_parquet(tmp_path / "whole.parquet", columns)).read_bytes()
    damaged = [
        whole[: len(whole) // 2],
        whole[:200] + b"\xff" * 200 + whole[400:],
        whole[:-300] + b"\x55" * 292 + whole[-8:],
    ]
    for content in damaged:
        path = save(tmp_path, content, name="rows.parquet")
        with pytest.raises(
            DataError, match=r"is no Parquet file, or a damaged one \(.*\)\. Fetch or write it again\.$"
        ):
            preferences.read(path)


def test_the_front_of_a_parquet_file_is_all_that_is_read(tmp_path):
    columns = {"prompt": [f"Box {n}?" for n in range(4000)], "chosen": ["Apples."] * 4000, "rejected": ["No."] * 4000}
    path = save_parquet(tmp_path / "rows.parquet", columns, row_group_size=1000)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2] + b"\xff" * 100 + whole[len(whole) // 2 + 100 :])
    assert preferences.read(path, limit=100, held_out=20).num_rows == 120


@on_linux
@pytest.mark.parametrize(("num_rows", "size"), [(1, 100 * 2**20), (1000, 6 * 2**20)], ids=["one", "shared"])
def test_a_long_value_of_parquet_is_refused_before_it_fills_the_memory(tmp_path, num_rows, size):
    import pyarrow

    # Written once however many rows have it; a reader that unfolds them all would need six gigabytes.
    shared = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * num_rows, pyarrow.int32()), ["x" * size])
    columns = {"prompt": ["Why?"] * num_rows, "chosen": shared, "rejected": ["No."] * num_rows}
    said = refused_cheaply(save_parquet(tmp_path / "rows.parquet", columns, store_schema=False))
    assert "longer than 4,194,304 bytes. Shorten or remove" in said
