"""Preference data: what becomes a pair, what is left out and why, and what is held out."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from core import hub_rows, preferences, sources
from core.errors import DataError, SettingError
from core.file_rows import Reason, Row
from core.messages import Message, Role, ask
from core.paths import PROJECT_ROOT
from core.transcripts import PreferencePair, RowError, parse_transcript, to_pair
from tests.cheap_refusal import on_linux, refused_cheaply

REAL_ROWS = PROJECT_ROOT.parent / "shared" / "data" / "hh-rlhf" / "harmless-base-1200.jsonl.gz"
needs_real_rows = pytest.mark.skipif(not REAL_ROWS.exists(), reason=f"the real rows are not here: {REAL_ROWS}")


def transcript(*turns: str) -> str:
    speakers = ("Human", "Assistant")
    return "".join(f"\n\n{speakers[place % 2]}: {turn}" for place, turn in enumerate(turns))


def row(number: int, question: str = "") -> dict[str, str]:
    question = question or f"What is in box {number}?"
    return {
        "chosen": transcript(question, f"Box {number} holds apples."),
        "rejected": transcript(question, f"Box {number}, who knows."),
    }


def save(path: Path, rows, **named) -> str:
    path.write_text("".join(json.dumps(value, **named) + "\n" for value in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def twelve(tmp_path: Path) -> list[dict[str, str]]:
    return [row(number) for number in range(1, 13)]


# Transcripts


def test_turns_start_only_at_their_marks():
    text = "\n\nHuman: Say Human: and\nAssistant: please\n\nAssistant: Human: said.\n\nNext paragraph."
    assert parse_transcript(text) == (
        Message(Role.USER, "Say Human: and\nAssistant: please"),
        Message(Role.ASSISTANT, "Human: said.\n\nNext paragraph."),
    )


@pytest.mark.parametrize("text", ["", "Hello", "To be read first.\n\nHuman: Hi\n\nAssistant: Hello", "Human Hi"])
def test_a_text_without_turns_at_its_start_is_no_transcript(text):
    with pytest.raises(RowError, match="not a transcript"):
        parse_transcript(text)


def test_the_prompt_is_everything_before_the_last_assistant_turn():
    pair = to_pair(
        Row(
            7,
            {"chosen": transcript("Hi", "Hello", "Why?", "So."), "rejected": transcript("Hi", "Hello", "Why?", "No.")},
        )
    )
    assert [turn.content for turn in pair.prompt] == ["Hi", "Hello", "Why?"]
    assert (pair.chosen, pair.rejected, pair.row) == ("So.", "No.", 7)


def test_turns_of_one_speaker_are_joined():
    prompt = "\n\nHuman: One\n\nHuman: Two\n\nAssistant: Three\n\nAssistant: Four\n\nHuman: Five\n\nAssistant:"
    pair = to_pair(Row(1, {"chosen": f"{prompt} Yes.", "rejected": f"{prompt} No."}))
    assert [turn.content for turn in pair.prompt] == ["One\n\nTwo", "Three\n\nFour", "Five"]


PROMPT = [{"role": "user", "content": "Why?"}]
REPLIES = ([{"role": "assistant", "content": "So."}], [{"role": "assistant", "content": "No."}])


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {"prompt": PROMPT, "chosen": "So.", "rejected": "No.", "score": 3},
        {"prompt": PROMPT, "chosen": REPLIES[0], "rejected": REPLIES[1]},
        {"prompt": "Why?", "chosen": PROMPT + REPLIES[0], "rejected": PROMPT + REPLIES[1]},
        {"chosen": PROMPT + REPLIES[0], "rejected": PROMPT + REPLIES[1]},
        {"prompt": None, "chosen": transcript("Why?", "So."), "rejected": transcript("Why?", "No.")},
        {"prompt": "Why?\r\n", "chosen": " So.", "rejected": "No.\n"},
        {"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": " So.", "rejected": " No."},
    ],
)
def test_every_form_of_a_row_gives_the_same_pair(value):
    assert to_pair(Row(1, value)) == PreferencePair(ask("Why?"), "So.", "No.", 1)


SYSTEM = [{"role": "system", "content": "Be brief."}]
DEEP = json.loads('{"a":' * 900 + "1" + "}" * 900)
PAIR = {"chosen": transcript("Why?", "So."), "rejected": transcript("Why?", "No.")}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NOT_PREFERENCE),
        ("text", Reason.NOT_PREFERENCE),
        ([], Reason.NOT_PREFERENCE),
        ({}, Reason.NOT_PREFERENCE),
        ({"prompt": "Why?", "answer": "So."}, Reason.NOT_PREFERENCE),
        (PAIR | {"rejected": None}, Reason.NOT_TEXT),
        (PAIR | {"rejected": 10**30}, Reason.NOT_TEXT),
        (PAIR | {"chosen": float("nan")}, Reason.NOT_TEXT),
        (PAIR | {"prompt": 7}, Reason.NOT_TEXT),
        (PAIR | {"prompt": ["Why?"]}, Reason.NOT_TEXT),
        (PAIR | {"prompt": [DEEP]}, Reason.NOT_TEXT),
        (PAIR | {"prompt": "half \ud83d"}, Reason.HALF_CHARACTER),
        (PAIR | {"chosen": transcript("Why?", "\udc00")}, Reason.HALF_CHARACTER),
        (PAIR | {"chosen": "So."}, Reason.NOT_TRANSCRIPT),
        ({"chosen": "\n\nAssistant: So.", "rejected": "\n\nAssistant: No."}, Reason.NO_HUMAN_FIRST),
        ({"prompt": SYSTEM, "chosen": "a", "rejected": "b"}, Reason.NO_HUMAN_FIRST),
        ({"prompt": PROMPT + SYSTEM, "chosen": "a", "rejected": "b"}, Reason.NO_HUMAN_FIRST),
        ({"chosen": transcript("Why?"), "rejected": transcript("Why?")}, Reason.NO_REPLY),
        ({"prompt": PROMPT, "chosen": PROMPT, "rejected": PROMPT}, Reason.NO_REPLY),
        ({"prompt": PROMPT, "chosen": [], "rejected": "b"}, Reason.NO_REPLY),
        (
            {key: value + "\n\nAssistant: More." for key, value in PAIR.items()},
            Reason.PROMPT_ENDS_WITH_ASSISTANT,
        ),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, Reason.EMPTY_TURN),
        ({key: transcript("Hi", "", "Why?", key) for key in PAIR}, Reason.EMPTY_TURN),
        (PAIR | {"chosen": transcript("Why not?", "So.")}, Reason.PROMPTS_DIFFER),
        ({"prompt": "How?", "chosen": PROMPT + REPLIES[0], "rejected": "b"}, Reason.PROMPTS_DIFFER),
        (PAIR | {"rejected": transcript("Why?", " ")}, Reason.EMPTY_REPLY),
        (PAIR | {"rejected": transcript("Why?", "So.  ")}, Reason.SAME_REPLY),
    ],
)  # fmt: skip
def test_what_is_no_pair_says_why(value, reason):
    with pytest.raises(RowError) as caught:
        to_pair(Row(1, value))
    assert caught.value.reason is reason


def test_missing_columns_name_those_that_were_found():
    with pytest.raises(RowError, match=r"^not a preference row \(its columns: question, good\)$"):
        to_pair(Row(1, {"question": "Why?", "good": "So."}))


# Files


def test_blank_lines_a_bom_and_crlf_are_nothing_special(tmp_path, twelve):
    path = tmp_path / "windows.jsonl"
    lines = [json.dumps(value) for value in twelve]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
    data = preferences.read(str(path), held_out=0)
    assert [pair.row for pair in data.train] == list(range(1, 24, 2))
    assert data.left_out == ()


def test_a_line_a_gzip_and_an_array_are_the_same_data(tmp_path, twelve):
    plain = save(tmp_path / "a.jsonl", twelve)
    packed, array = tmp_path / "b.jsonl.gz", tmp_path / "c.json"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    array.write_text(json.dumps(twelve, indent=2))
    first, *others = (preferences.read(str(path)) for path in (plain, packed, array))
    assert all((other.train, other.held_out) == (first.train, first.held_out) for other in others)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"chosen": "torn', Reason.NOT_JSON),
        (b"nothing of the sort", Reason.NOT_JSON),
        (b'{"chosen": "a", "chosen": "b", "rejected": "c"}', Reason.NOT_JSON),
        (b"9" * 5000, Reason.NOT_JSON),
        (b"9" * 30, Reason.NOT_PREFERENCE),
        (b'{"chosen": "caf\xe9"}', Reason.NOT_UTF8),
        (b"[" * 100_000, Reason.TOO_DEEP),
        (b'{"a":' * 100_000, Reason.TOO_DEEP),
    ],
)
def test_a_bad_line_is_left_out_with_its_number(tmp_path, twelve, line, reason):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(value).encode() for value in twelve]
    path.write_bytes(b"\n".join([*lines[:5], line, *lines[5:]]))
    data = preferences.read(str(path), held_out=0)
    assert [(left.row, left.reason) for left in data.left_out] == [(6, reason)]
    assert len(data.train) == 12


GZIPPED = gzip.compress(b"\n".join(json.dumps(row(number)).encode() for number in range(2000)))
REFUSED = {
    "lfs.jsonl": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer, not the data"),
    "utf16.jsonl": (json.dumps(row(1)).encode("utf-16"), "UTF-16"),
    "nul.jsonl": (b'{"chosen"\0', "NUL byte at offset 9"),
    "late-nul.jsonl": (json.dumps(row(1)).encode() + b"\n\0", "NUL byte at offset"),
    "fake.jsonl.gz": (b'{"chosen": ""}', "named .gz and is no gzip file"),
    "torn.jsonl.gz": (GZIPPED[: len(GZIPPED) // 2], "damaged gzip file"),
    "changed.jsonl.gz": (GZIPPED[:200] + b"\xff" * 50 + GZIPPED[250:], "damaged gzip file"),
    "empty.jsonl": (b"", "holds no rows"),
    "blank.jsonl": (b"\n \r\n\n", "holds no rows"),
    "scalar.json": (b"42", "int where an object belongs"),
    "text.json": (b'"hello"', "str where an object belongs"),
    "array.json": (b"[]", "holds no rows"),
    "torn-array.json": (b'[{"chosen": "a"},', "starts as a JSON array and is not one"),
    "deep-array.json": (b"[" * 100_000, "starts as a JSON array and is not one"),
    "two-arrays.jsonl": (b"[1]\n[2]\n", "starts as a JSON array and is not one"),
    "pairs.tsv": (b"chosen\trejected\n", "is not one of .jsonl"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_data_file_is_one_sentence(tmp_path, name):
    content, words = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words.replace(".", r"\.")) as caught:
        preferences.read(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["nowhere.jsonl", "./data/nowhere", "/nowhere/at/all", "data/x.csv", "", "x\0y", "+"]
)
def test_a_path_without_a_file_is_never_looked_up(source, looked_up_hosts):
    with pytest.raises(
        DataError, match=r"^There is no such file: .* Data is 'starter', the path of a \.jsonl, \.csv or"
    ):
        preferences.read(source)
    assert looked_up_hosts == []


def test_a_folder_is_no_data(tmp_path):
    with pytest.raises(DataError, match="is not one of"):
        preferences.read(str(tmp_path))


@on_linux
@pytest.mark.parametrize(
    ("byte", "start", "words"),
    [(b" ", b"{", "longer than"), (b"\n", b"\n", "lines before"), (b" ", b"[", "one JSON array of over")],
    ids=["line", "lines", "array"],
)  # fmt: skip
def test_a_bomb_costs_neither_time_nor_memory(tmp_path, byte, start, words):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(100):
            file.write(byte * 2**20)
    assert words in refused_cheaply(path)


# Cutting


def numbers(pairs) -> list[int]:
    return [pair.row for pair in pairs]


@pytest.mark.parametrize(
    ("limit", "held_out", "train", "kept"),
    [
        (20, 5, range(1, 21), range(21, 26)),
        (40, 5, range(1, 36), range(36, 41)),
        (1000, None, range(1, 31), range(31, 41)),
        (20, None, range(1, 21), range(21, 26)),
        (38, 5, range(1, 36), range(36, 41)),
        (10, 0, range(1, 11), []),
    ],
)
def test_held_out_rows_come_after_the_limit_or_last(tmp_path, limit, held_out, train, kept):
    path = save(tmp_path / "forty.jsonl", [row(number) for number in range(1, 41)])
    data = preferences.read(path, limit, held_out)
    assert (numbers(data.train), numbers(data.held_out)) == (list(train), list(kept))
    assert data.num_rows == len(train) + len(kept)


def test_a_held_out_row_that_starts_like_a_training_row_is_in_neither(tmp_path, twelve):
    again = row(13, question="what is  in Box 3?")
    data = preferences.read(save(tmp_path / "rows.jsonl", [*twelve, again, row(14)]), held_out=2)
    assert numbers(data.train) == list(range(1, 13))
    assert numbers(data.held_out) == [14]
    assert data.left_out_counts() == {"held-out row shares its first human turn with training": 1}


def test_a_repeated_row_counts_once(tmp_path, twelve):
    data = preferences.read(save(tmp_path / "rows.jsonl", [*twelve, twelve[3]]), held_out=0)
    assert [(left.row, left.reason) for left in data.left_out] == [(13, Reason.DUPLICATE)]


def test_too_few_usable_rows_say_how_many_and_why(tmp_path, twelve):
    path = save(tmp_path / "rows.jsonl", [{"question": "Why?"}, *twelve[:9]])
    with pytest.raises(DataError) as caught:
        preferences.read(path, held_out=2)
    assert str(caught.value) == (
        f"'{path}' gives 7 usable rows to train on, and at least 8 are needed: 10 read, 2 of them held out. "
        "Left out: 1 not a preference row; the first is row 1, not a preference row (its columns: question). "
        'A row is {"chosen": ..., "rejected": ...} with transcripts, or with texts and a "prompt" beside them.'
    )


def test_a_split_seed_draws_the_held_out_rows_from_all_of_them(tmp_path):
    path = save(tmp_path / "forty.jsonl", [row(number) for number in range(1, 61)])
    drawn = [preferences.read(path, 30, 10, split_seed=seed) for seed in (1, 1, 2)]
    for data in drawn:
        assert sorted(numbers(data.train) + numbers(data.held_out)) == list(range(1, 41))
        assert (len(data.train), len(data.held_out)) == (30, 10)
        assert numbers(data.train) == sorted(numbers(data.train))
    assert drawn[0] == drawn[1]
    assert numbers(drawn[0].held_out) != numbers(drawn[2].held_out)
    assert min(numbers(drawn[0].held_out)) <= 30


@pytest.mark.parametrize(("limit", "held_out"), [(0, None), (-1, None), (10**9, None), (100, -1), (float("nan"), 0)])
def test_numbers_out_of_range_are_refused(tmp_path, twelve, limit, held_out):
    with pytest.raises(SettingError):
        preferences.read(save(tmp_path / "rows.jsonl", twelve), limit, held_out)


# Several sources


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A Hub whose every data set has rows of its own; remembers what it was asked."""
    asked: list[tuple] = []

    def load_dataset(name, config, data_dir, split, token):
        asked.append((name, data_dir, split, token) if config is None else (name, config, data_dir, split, token))
        most = int(split.partition("[:")[2].removesuffix("]"))
        return [row(number, f"{name} {data_dir} {number}") for number in range(1, min(most, 900) + 1)]

    import datasets

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_hub_name_asks_for_no_more_rows_than_it_needs(hub):
    data = preferences.read("owner/name:folder", limit=100, held_out=20, token="secret")
    assert hub == [("owner/name", "folder", "train[:120]", "secret")]
    assert (len(data.train), len(data.held_out)) == (100, 20)
    assert preferences.read("owner/name", limit=100).num_rows == 125
    assert hub[-1] == ("owner/name", None, "train[:300]", None)


def test_joined_sources_are_mixed_the_same_each_time(hub):
    source = "owner/name:helpful@500+owner/name:harmless@500"
    data = preferences.read(source)
    assert [asked[:3] for asked in hub] == [
        ("owner/name", "helpful", "train[:500]"),
        ("owner/name", "harmless", "train[:500]"),
    ]
    assert (len(data.train), len(data.held_out)) == (800, 200)
    helpful = Counter("helpful" in pair.prompt[0].content for pair in data.held_out)
    assert min(helpful.values()) > 60
    assert sorted(numbers(data.train + data.held_out)) == list(range(1, 1001))
    assert preferences.read(source) == data


@pytest.mark.parametrize("source", ["owner/name:folder?config=en&split=test", "owner/name:folder?split=test&config=en"])
def test_a_configuration_and_a_split_can_be_named(hub, source):
    rows = [preferences.read(name, limit=100, held_out=0).num_rows for name in (source, f"{source}@50")]
    assert hub == [("owner/name", "en", "folder", f"test[:{most}]", None) for most in (100, 50)]
    assert rows == [100, 50]
    first, query = source.split("?")
    preferences.read(f"{first}@50?{query}+owner/other?split=dev@9", limit=100, held_out=0)
    assert hub[2:] == [("owner/name", "en", "folder", "test[:50]", None), ("owner/other", None, "dev[:9]", None)]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "'{}' has several configurations: 'one', 'two'. Say which, as {}?config=NAME."),
        ("?config=three", "'{}' has no configuration 'three'. There are: 'one', 'two'."),
        ("?config=two&split=test", "'{}' has no split 'test'. There are: 'train'. Say which, as {}?split=NAME."),
    ],
)
def test_a_configuration_or_split_that_is_not_there_names_those_that_are(
    tmp_path, twelve, query, sentence, monkeypatch
):
    import datasets

    # The library itself, on a folder that is published as a data set of the Hub is.
    save(tmp_path / "train.jsonl", twelve)
    save(tmp_path / "test.jsonl", twelve)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files:\n  - split: train\n    path: train.jsonl\n  - split: test\n"
        "    path: test.jsonl\n- config_name: two\n  data_files: train.jsonl\n---\n"
    )
    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, *given, **named: load(str(tmp_path), *given, cache_dir=tmp_path, **named)
    )
    assert preferences.read("owner/name?config=one&split=test", held_out=0).num_rows == 12
    with pytest.raises(DataError) as caught:
        preferences.read(f"owner/name{query}")
    assert str(caught.value) == sentence.replace("{}", "owner/name")


def test_a_file_may_be_called_like_joined_sources(tmp_path, twelve):
    path = save(tmp_path / "a+b@9.jsonl", twelve)
    assert preferences.read(path, held_out=0).num_rows == 12
    assert preferences.read(f"{path}@9", held_out=0).num_rows == 9


def hub_errors():
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetGenerationError, DatasetNotFoundError

    return [
        (ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"), "The Hub cannot be reached"),
        (FileNotFoundError("Couldn't find 'a/b' either: LocalEntryNotFoundError: none"), "The Hub cannot be reached"),
        (DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub. You must be"), "is gated on the Hub"),
        (DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot"), "The Hub has no data set 'a/b'"),
        (DataFilesNotFoundError("No (supported) data files found"), "holds no data files"),
        (EmptyDatasetError("The directory doesn't contain any data files"), "holds no data files"),
        (ValueError("Invalid pattern:\nit holds **"), "cannot be read from the Hub (Invalid pattern: it holds **)"),
        (DatasetGenerationError(), "cannot be read from the Hub (DatasetGenerationError)"),
    ]


@pytest.mark.parametrize("place", range(8))
def test_a_hub_failure_is_a_sentence_with_the_way_out(monkeypatch, place):
    import datasets

    error, words = hub_errors()[place]

    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError) as caught:
        preferences.read("a/b:c")
    sentence = str(caught.value)
    assert words in sentence
    assert "\n" not in sentence
    assert any(way in sentence for way in (hub_rows.ELSEWHERE, hub_rows.TOKEN_HINT))


def test_a_hub_data_set_without_rows_is_an_error(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **named: [])
    with pytest.raises(DataError, match=r"^'a/b' holds no rows\."):
        preferences.read("a/b")


# Snapshots


def test_a_snapshot_gives_back_the_same_data(tmp_path, twelve):
    data = preferences.read(save(tmp_path / "rows.jsonl", [*twelve, 7, row(14), row(15, "\u2028 é")]), held_out=2)
    path = tmp_path / "run" / "data.jsonl"
    assert preferences.write_snapshot(data, path) == data.sha256
    assert preferences.read_snapshot(path) == data
    assert preferences.read(str(path), limit=8, held_out=1) == data


def test_a_snapshot_keeps_what_form_its_rows_had(tmp_path):
    rows = [{"question": f"Box {number}?", "answer": f"Apples, {number}."} for number in range(12)]
    data = preferences.read(save(tmp_path / "rows.jsonl", [*rows, rows[0]]), held_out=2)
    assert data.found == "Columns question and answer, taken as prompt and chosen, without a rejected reply: SFT only."
    assert not data.is_paired
    assert {pair.rejected for pair in data.train + data.held_out} == {""}
    assert data.left_out_counts() == {"repeats an earlier row": 1}
    preferences.write_snapshot(data, tmp_path / "data.jsonl")
    assert preferences.read(str(tmp_path / "data.jsonl"), columns={"prompt": "nowhere"}, split_seed=3) == data
    with pytest.raises(DataError) as caught:
        preferences.require_pairs(data)
    assert str(caught.value) == (
        f"'{data.source}' holds no rejected replies, and DPO learns from both: take SFT, or data with a rejected reply."
    )


def test_a_snapshot_of_an_older_version_is_one_of_pairs(tmp_path, twelve):
    data = preferences.read(save(tmp_path / "rows.jsonl", twelve))
    preferences.require_pairs(data)
    preferences.write_snapshot(data, path := tmp_path / "data.jsonl")
    path.write_bytes(
        path.read_bytes().replace(b',"found":"HH-RLHF transcripts: chosen and rejected.","is_paired":true', b"")
    )
    old = preferences.read_snapshot(path)
    assert (old.train, old.found, old.is_paired) == (data.train, "", True)
    assert old.sha256 != data.sha256


def test_a_snapshot_does_not_follow_its_source(tmp_path, twelve):
    source = save(tmp_path / "rows.jsonl", twelve)
    data = preferences.read(source, held_out=2)
    preferences.write_snapshot(data, tmp_path / "data.jsonl")
    Path(source).unlink()
    assert preferences.read_snapshot(tmp_path / "data.jsonl") == data


def test_a_changed_row_changes_the_hash(tmp_path, twelve):
    first = preferences.read(save(tmp_path / "rows.jsonl", twelve))
    twelve[11]["rejected"] += "!"
    assert preferences.read(save(tmp_path / "rows.jsonl", twelve)).sha256 != first.sha256


def test_a_damaged_or_missing_snapshot_is_a_sentence(tmp_path, twelve):
    path = tmp_path / "data.jsonl"
    with pytest.raises(DataError, match=r"cannot be read .* Start a new run\."):
        preferences.read_snapshot(path)
    preferences.write_snapshot(preferences.read(save(tmp_path / "rows.jsonl", twelve)), path)
    whole = path.read_bytes()
    for damaged in (whole[:-30], b"", b"[]\n" + whole, whole.replace(b'"part":"train"', b'"part":"other"')):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged"):
            preferences.read_snapshot(path)


# Real rows


@needs_real_rows
def test_the_counts_on_real_transcripts():
    """1,200 rows of harmless-base: first 1,000 to train, last 200 held out."""
    data = preferences.read(str(REAL_ROWS), limit=1000, held_out=200)
    assert data.num_rows == 1200
    assert (len(data.train), len(data.held_out)) == (997, 188)
    assert data.left_out_counts() == {
        "held-out row shares its first human turn with training": 11,
        "an empty reply": 4,
    }
    assert [left.row for left in data.left_out if left.reason is Reason.EMPTY_REPLY] == [87, 517, 926, 1104]
    starts = {preferences.first_human_turn(pair) for pair in data.train}
    assert not starts & {preferences.first_human_turn(pair) for pair in data.held_out}


@needs_real_rows
def test_every_real_prompt_alternates_and_ends_with_the_human():
    data = preferences.read(str(REAL_ROWS))
    for pair in data.train + data.held_out:
        roles = [turn.role for turn in pair.prompt]
        assert roles == [Role.USER, Role.ASSISTANT] * (len(roles) // 2) + [Role.USER]


def test_reading_a_file_imports_neither_torch_nor_datasets(tmp_path, twelve):
    path = save(tmp_path / "rows.jsonl", twelve)
    program = "import sys; from core import preferences; preferences.read(sys.argv[1]); print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program, path], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "datasets", "pandas", "pyarrow", "httpx"} & set(ran.stdout.split())


def test_the_starter_file_is_where_it_is_looked_for():
    assert sources.STARTER_FILE.parent == PROJECT_ROOT / "assets"
