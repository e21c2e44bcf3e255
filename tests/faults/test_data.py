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
