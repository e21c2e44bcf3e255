"""Data that is broken or hostile: one sentence, or rows left out by name; never a traceback, a wait or a guess."""

import json
from pathlib import Path

import pytest

from core import lens, preferences
from core.client import RunRequest
from core.errors import DataError
from core.file_rows import Reason
from tests.cheap_refusal import on_linux, refused_cheaply
from tests.conftest import transcript_row
from tests.faults.figures.broken_files import LFS, seed_file, snapshot


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
def test_093_a_pointer_of_git_lfs_is_called_one_whatever_it_points_to(tmp_path, suffix):
    path = save(tmp_path / f"train{suffix}", LFS)
    with pytest.raises(DataError) as caught:
        preferences.read(str(path))
    assert str(caught.value) == f"{path} is a Git LFS pointer, not the data. Fetch the data with: git lfs pull"


def test_094_a_row_with_half_a_character_can_be_shown(resident, pairs_file):
    with pairs_file.open("a") as file:
        file.write(json.dumps(transcript_row(41) | {"chosen": "\ud800"}) + "\n")
    view = lens.look(resident, RunRequest(method="dpo", dataset=str(pairs_file)), 41)
    assert [left.reason for left in view.left_out] == [Reason.HALF_CHARACTER]
    assert view.raw.startswith("chosen:\n?\n\nrejected:")


@on_linux
@pytest.mark.parametrize(
    "name", ["objects without an end", "rows of nothing but commas", "nulls in no bytes", "ten thousand columns"]
)
def test_098_a_small_file_that_unfolds_into_millions_of_objects_costs_neither_time_nor_memory(tmp_path, name):
    suffix, content = seed_file(name)
    said = refused_cheaply(save(tmp_path / f"rows{suffix}", content))
    assert "far more lists, objects and numbers than conversations do" in said or "has over 1,000 columns" in said


def hh(*turns: str, open_with: str = "\n\n") -> str:
    """A transcript of "Speaker: text" turns, in the form of HH-RLHF."""
    return open_with + "\n\n".join(turns)


ASKED = "Human: Which boat leaves first?"
# The peculiarities of HH-RLHF's rows in sentences of our own: both transcripts, and why the row is left out if it is.
ODDITIES = {
    "stripped of the blank lines before it": (
        (hh(ASKED, "Assistant: The red one.", open_with=""), hh(ASKED, "Assistant: None.", open_with="")), None,
    ),
    "no mark of a turn at all": (("The red boat leaves first.", "No boat leaves."), Reason.NOT_TRANSCRIPT),
    "text before the first turn": (
        (hh("Read this.", ASKED, "Assistant: The red one."), hh("Read this.", ASKED, "Assistant: None.")),
        Reason.NOT_TRANSCRIPT,
    ),
    "the assistant speaks first": (
        (hh("Assistant: Welcome.", ASKED, "Assistant: Red."), hh("Assistant: Welcome.", ASKED, "Assistant: None.")),
        Reason.NO_HUMAN_FIRST,
    ),
    "the human has the last word": (
        (hh(ASKED, "Assistant: Red.", "Human: Thanks."), hh(ASKED, "Assistant: None.")), Reason.NO_REPLY,
    ),
    "the human speaks twice": (
        (hh("Human: Wait.", ASKED, "Assistant: Red."), hh("Human: Wait.", ASKED, "Assistant: None.")), None,
    ),
    "the assistant speaks twice on the way": (
        (hh("Human: Hi.", "Assistant: Hello.", "Assistant: Yes?", ASKED, "Assistant: Red."),
         hh("Human: Hi.", "Assistant: Hello.", "Assistant: Yes?", ASKED, "Assistant: None.")), None,
    ),
    "the assistant speaks twice at the end": (
        (hh(ASKED, "Assistant: Red.", "Assistant: Surely."), hh(ASKED, "Assistant: Red.", "Assistant: Maybe.")),
        Reason.PROMPT_ENDS_WITH_ASSISTANT,
    ),
    "a mark inside a line": (
        (hh("Human: Say Assistant: twice.", "Assistant: Human: no.\nAssistant: no."),
         hh("Human: Say Assistant: twice.", "Assistant: I will not.")), None,
    ),
    "different prompts": (
        (hh(ASKED, "Assistant: Red."), hh("Human: Which boat is last?", "Assistant: None.")), Reason.PROMPTS_DIFFER,
    ),
    "nothing said at the end": ((hh(ASKED, "Assistant: Red."), hh(ASKED, "Assistant:")), Reason.EMPTY_REPLY),
    "nothing said in the middle": (
        (hh(ASKED, "Assistant:", "Human: Well?", "Assistant: Red."),
         hh(ASKED, "Assistant:", "Human: Well?", "Assistant: None.")), Reason.EMPTY_TURN,
    ),
    "the same reply twice": ((hh(ASKED, "Assistant: Red. "), hh(ASKED, "Assistant: Red.")), Reason.SAME_REPLY),
}  # fmt: skip


def test_101_every_peculiarity_of_hh_rlhf_is_kept_or_left_out_by_its_rule(tmp_path):
    plain = [transcript_row(n) for n in range(1, 9)]
    odd = [dict(zip(("chosen", "rejected"), sides, strict=True)) for sides, _ in ODDITIES.values()]
    rows = [*plain, *odd, odd[0]]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    data = preferences.read(str(save(tmp_path / "odd.jsonl", lines)), held_out=0)
    expected = {name: reason for name, (_, reason) in ODDITIES.items()}
    found = {left.row: left.reason for left in data.left_out}
    assert {name: found.get(number) for number, name in enumerate(ODDITIES, len(plain) + 1)} == expected
    assert found[len(rows)] is Reason.DUPLICATE
    assert (data.num_rows, len(data.train), len(data.left_out)) == (22, 12, 10)
    assert data.left_out_counts() == {
        "not a transcript": 2,
        "no human turn first": 1,
        "does not end with the assistant": 1,
        "two assistant turns at the end": 1,
        "chosen and rejected answer different prompts": 1,
        "an empty reply": 1,
        "an empty turn in the prompt": 1,
        "chosen equals rejected": 1,
        "repeats an earlier row": 1,
    }
    said = [[turn.content for turn in pair.prompt] for pair in data.train[len(plain) :]]
    boat = "Which boat leaves first?"
    assert said == [
        [boat], [f"Wait.\n\n{boat}"], ["Hi.", "Hello.\n\nYes?", boat], ["Say Assistant: twice."],
    ]  # fmt: skip
    assert data.train[-1].chosen == "Human: no.\nAssistant: no."


def test_104_a_file_that_changed_since_it_was_looked_at_is_read_anew_and_one_that_is_gone_is_said(resident, pairs_file):
    request = RunRequest(method="dpo", dataset=str(pairs_file))
    before = lens.look(resident, request)
    pairs_file.write_text("".join(json.dumps(transcript_row(n)) + "\n" for n in range(50, 70)))
    after = lens.look(resident, request)
    assert (after.num_rows, after.sha256 == before.sha256) == (20, False)
    pairs_file.unlink()
    with pytest.raises(DataError, match=r"^There is no such file: '.*pairs\.jsonl'\. Data is 'starter', the path of"):
        lens.look(resident, request)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b'"chosen":"Apples, 3."', b'"chosen":7'),
        (b'"chosen":"Apples, 3."', b'"chosen":"\\ud800"'),
        (b'"chosen":"Apples, 3."', b'"chosen":" "'),
        (b'"role":"user"', b'"role":"assistant"'),
        (b'"row":3', b'"row":"3"'),
        (b'"num_rows":13', b'"num_rows":"13"'),
        (b'"source":"rows.jsonl"', b'"source":null'),
        (b'"left_out":[', b'"left_out":[[],'),
        (b'"part":"train"', b'"part":[]'),
        (b"\n", b"\n" + b"[" * 100_000 + b"\n"),
        (b"\n", b"\n\xff\n"),
    ],
)
def test_104_a_file_that_only_claims_to_be_a_runs_snapshot_is_held_to_the_same_rules(tmp_path, part, other):
    whole = snapshot()
    assert len(preferences.read(str(save(tmp_path / "good.jsonl", whole))).train) == 10
    assert part in whole
    path = save(tmp_path / "data.jsonl", whole.replace(part, other, 1))
    with pytest.raises(DataError, match=r"^The run's data .* is damaged \(.*\)\. Start a new run\.$"):
        preferences.read(str(path))


def test_104_text_that_was_cleaned_once_stays_as_it_is_in_its_snapshot(tmp_path):
    rows = [{"prompt": f"{n}\r\r\nand", "chosen": "a\r\r\r\nb", "rejected": "c\r\n\r"} for n in range(9)]
    path = save(tmp_path / "rows.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    data = preferences.read(str(path), held_out=0)
    preferences.write_snapshot(data, tmp_path / "data.jsonl")
    assert preferences.read_snapshot(tmp_path / "data.jsonl") == data


@pytest.mark.parametrize(
    "name", ["a byte order mark and CRLF", "packed", "one large array", "a ragged table", "a table"]
)
def test_106_no_file_of_ones_own_goes_through_the_cache_of_datasets(tmp_path, monkeypatch, name):
    import datasets

    def never(*arguments, **named):
        raise AssertionError("load_dataset was asked for a local file")

    monkeypatch.setattr(datasets, "load_dataset", never)
    suffix, content = seed_file(name)
    assert preferences.read(str(save(tmp_path / f"rows{suffix}", content))).num_rows >= 12
