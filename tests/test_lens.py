"""The lens shows what a run would be given: the very text, where it is cut, and each row that is left out."""

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch

from core import lens, loader, paths, preferences, run_request
from core.client import RunRequest
from core.device import Device
from core.errors import DataError
from core.file_rows import Reason
from core.loader import ResidentModel
from core.messages import Message, Role, ask
from core.settings import Method, Settings, Size
from core.token_rows import tokenise
from core.transcripts import PreferencePair
from core.wire import SpanKind
from tests.conftest import transcript_row
from tests.in_process import start_client

CPU = Device("cpu", torch.float32, "sdpa", "for tests")


@pytest.fixture(params=["tiny_model_dir", "tiny_mistral_dir"])
def resident(request, monkeypatch: pytest.MonkeyPatch) -> ResidentModel:
    monkeypatch.setattr(loader, "release", lambda kind: None)
    paths.ensure_home()
    return ResidentModel(request.getfixturevalue(request.param), CPU)


def write(folder: Path, *rows: object) -> Path:
    """A file of 30 good rows and then `rows`; a string is a line as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in (*map(transcript_row, range(1, 31)), *rows)]
    path = folder / "pairs.jsonl"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def request(dataset: object, max_length: int = 512, **changes) -> RunRequest:
    changes = {"held_out": 8} | changes
    return RunRequest(method="dpo", dataset=str(dataset), settings={"max_length": max_length}, **changes)


def joined(spans, *kinds: SpanKind) -> str:
    return "".join(text for text, kind in spans if kind in (kinds or SpanKind))


PROMPT = (
    Message(Role.SYSTEM, "You are terse."),
    Message(Role.USER, "Héllo 👩‍👩‍👧 <b>you</b>"),
    Message(Role.ASSISTANT, "Hm."),
    Message(Role.USER, "日本語で **say** it\n\n- again"),
)
REPLY = "A lamp 🏮 of the river, ünd so weiter: 日本 <img src=x>  two  spaces\n```\ncode\n``` " * 3


def shown(resident: ResidentModel, folder: Path, max_length: int = 512):
    row = {"prompt": [{"role": m.role, "content": m.content} for m in PROMPT], "chosen": REPLY, "rejected": "No."}
    view = lens.look(resident, request(write(folder, row), max_length, held_out=1), 31)
    assert view.pair is not None
    return view.pair


def test_the_spans_together_are_the_text_that_the_template_renders(resident, tmp_path):
    pair = shown(resident, tmp_path)
    assert joined(pair.chosen_spans) == resident.template.pair_text(PROMPT, REPLY.strip())
    assert joined(pair.rejected_spans) == resident.template.pair_text(PROMPT, "No.")
    assert pair.chosen_spans[0][1] is SpanKind.PROMPT


@pytest.mark.parametrize("max_length", [160, 192, 224, 256, 288])
def test_what_is_read_and_trained_on_are_the_ids_that_a_run_is_given_and_the_rest_is_cut(
    resident, tmp_path, max_length
):
    pair = shown(resident, tmp_path, max_length)
    written = PreferencePair(PROMPT, REPLY.strip(), "No.", 31)
    (row,), _ = tokenise(resident.template, [written], max_length)
    # A character whose tokens lie on both sides of the cut is no longer seen whole: it counts as cut.
    decode = resident.tokenizer.decode
    kept = joined(pair.chosen_spans, SpanKind.PROMPT, SpanKind.TRAINED)
    assert decode(row.prompt_ids + row.chosen_ids).rstrip("\ufffd") == kept.rstrip("\ufffd")
    assert joined(pair.chosen_spans, SpanKind.PROMPT) == decode(row.prompt_ids)
    assert joined(pair.chosen_spans, SpanKind.CUT)
    assert not joined(pair.rejected_spans, SpanKind.CUT)


def test_no_character_is_broken_wherever_the_cut_falls(resident):
    text = resident.template.pair_text(ask("Who?"), "👩‍👩‍👧 日本")
    num_tokens = len(resident.template.pair_ids(ask("Who?"), "👩‍👩‍👧 日本")[1])
    assert num_tokens > 20
    for max_length in range(1, 80):
        spans = lens._spans(resident.template, ask("Who?"), "👩‍👩‍👧 日本", max_length)
        assert joined(spans) == text


def test_figures_are_those_of_the_run(resident, tmp_path):
    asked = request(write(tmp_path, *(transcript_row(n) for n in range(31, 41))), 96)
    view = lens.look(resident, asked)
    data = run_request.read_data(asked.dataset, asked)
    settings = Settings.of(Method.DPO, Size.SMALL, asked.settings)
    train, _ = tokenise(resident.template, data.train, settings.max_length)
    held_out, _ = tokenise(resident.template, data.held_out, settings.max_length)
    assert (len(view.train_rows), len(view.held_out_rows)) == (len(train), len(held_out)) == (32, 8)
    assert view.num_cut == sum(row.num_cut for row in train + held_out)
    assert view.prompt_lengths == tuple(len(row.prompt_ids) for row in train + held_out)
    assert (view.sha256, view.max_length, view.base) == (data.sha256, 96, resident.name)
    assert view.pair is not None
    assert view.pair.row == view.train_rows[0]


def test_the_sha_is_that_of_the_snapshot_that_a_run_keeps(resident, tmp_path):
    asked = request(write(tmp_path))
    data = run_request.read_data(asked.dataset, asked)
    assert lens.look(resident, asked).sha256 == preferences.write_snapshot(data, tmp_path / "kept.jsonl")


def test_each_row_that_is_left_out_is_found_by_its_number_with_what_stands_there(resident, tmp_path):
    said = "\n\nHuman: <b>Which?</b>\n\nAssistant: This one."
    same = {"chosen": said, "rejected": said, "votes": [1, 2]}
    path = write(tmp_path, same, transcript_row(1), "{not json", transcript_row(99))
    view = lens.look(resident, request(path, held_out=1), 31)
    assert {row.row: row.reason for row in view.left_out} == {
        31: Reason.SAME_REPLY, 32: Reason.DUPLICATE, 33: Reason.NOT_JSON,
    }  # fmt: skip
    assert view.pair is None
    assert view.raw == f"chosen:\n{said}\n\nrejected:\n{said}\n\nvotes:\n[1, 2]"
    assert lens.look(resident, request(path, held_out=1), 33).raw == ""
    with pytest.raises(DataError, match=r"There is no row 99: rows 1 to 34 were read\."):
        lens.look(resident, request(path, held_out=1), 99)


def test_what_only_tokens_tell_against_is_left_out_with_its_number_and_still_shown(resident, tmp_path):
    long = {"prompt": "Where? " * 60, "chosen": "Here.", "rejected": "There."}
    alike = {"prompt": "Where?", "chosen": "So " * 90 + "here.", "rejected": "So " * 90 + "there."}
    view = lens.look(resident, request(write(tmp_path, long, alike), 160, held_out=0), 31)
    assert [(row.row, row.reason) for row in view.left_out] == [(31, Reason.PROMPT_TOO_LONG), (32, Reason.CUT_ALIKE)]
    assert {31, 32}.isdisjoint(view.train_rows)
    assert view.pair is not None
    assert not joined(view.pair.chosen_spans, SpanKind.TRAINED)
    assert len(view.train_rows) == len(view.prompt_lengths) == 30


@pytest.fixture
def odd_file(tmp_path: Path) -> Path:
    """Pairs in columns whose names say nothing."""
    rows = [{"ask": f"Which box is {n}?", "good": f"Box {n}.", "bad": f"None of {n}."} for n in range(20)]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_through_the_engine_unknown_columns_are_a_question_to_the_lens_and_a_fault_of_the_data_to_a_plan(
    tiny_model_dir, odd_file, monkeypatch
):
    with closing(start_client(str(tiny_model_dir), monkeypatch)) as client:
        assert client.look_at_data(request(odd_file)).is_unmapped
        with pytest.raises(DataError, match="has the columns ask, good and bad"):
            client.preview(request(odd_file))


def test_columns_that_do_not_show_are_asked_for_and_then_taken(resident, odd_file):
    view = lens.look(resident, request(odd_file))
    assert (view.is_unmapped, set(view.columns), view.pair) == (True, {"ask", "good", "bad"}, None)
    columns = {"prompt": "ask", "chosen": "good", "rejected": "bad"}
    view = lens.look(resident, request(odd_file, columns=columns))
    assert not view.is_unmapped
    assert view.pair is not None
    assert (view.pair.prompt[-1].content, view.pair.chosen) == ("Which box is 0?", "Box 0.")


def test_data_for_sft_alone_has_no_rejected_side(resident, tmp_path):
    rows = [{"instruction": f"Which box is {n}?", "output": f"Box {n}."} for n in range(20)]
    path = tmp_path / "sft.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    view = lens.look(resident, request(path))
    assert not view.is_paired
    assert view.pair is not None
    assert (view.pair.rejected, view.pair.rejected_spans, set(view.rejected_lengths)) == ("", (), {0})


def test_the_next_row_costs_no_second_reading_and_a_changed_file_is_read_anew(resident, tmp_path, monkeypatch):
    path = write(tmp_path)
    reads = []
    read = preferences.read
    monkeypatch.setattr(preferences, "read", lambda *args, **named: reads.append(1) or read(*args, **named))
    for row in (None, 2, 30):
        lens.look(resident, request(path), row)
    assert len(reads) == 1
    lens.look(resident, request(path, split_seed=7))
    write(tmp_path, transcript_row(31))
    assert lens.look(resident, request(path)).num_rows == 31
    assert len(reads) == 3
