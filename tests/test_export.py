import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from core.export import COLUMNS, Row, escape, to_csv, unescape, write_csv

ROW = Row(
    "quantum-1", "quantum computing", "Why?", "Because.", "So.", "A", "B", "loss", "base", "tuned", "flip", "reason",
    "smollm2", "dpo-1", "gemini", 12, None, 42, "2026-11-22T10:00:00+00:00",
)  # fmt: skip

TRIGGERS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\x00=1", "＝1", "＋1", "－1", "＠A", " =1", "\ufeff=1",
    "'=1", "'", "''", "'\\", "\\", "'\\u0041", "\\u000d", "=\r", "a\rb", "a\r\nb", "a\x00b", "\ud800", "x\udfffy",
    "NA", "", "007", "1e5", "nan", "inf", 'say "hi"', "a,b", "two\nlines", "🙂", "é", "\u2028", ";=1",
]  # fmt: skip


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("cell", TRIGGERS)
def test_every_cell_comes_back_as_it_was(cell: str) -> None:
    assert unescape(escape(cell)) == cell
    assert unescape(read(to_csv([replace(ROW, prompt=cell)]))[0]["prompt"]) == cell


@pytest.mark.parametrize(
    "cell", [cell for cell in TRIGGERS if cell.strip("\ufeff \t\r\n\x00")[:1] in tuple("=+-@＝＋－＠")]
)
def test_no_cell_starts_like_a_formula(cell: str) -> None:
    assert escape(cell)[0] == "'"


@pytest.mark.parametrize("cell", ["plain", "NA", "007", "1e5", "two\nlines", 'say "hi"', "back\\slash", "a = b", "Ünï"])
def test_what_is_harmless_stays_as_it_is(cell: str) -> None:
    assert escape(cell) == cell


def test_the_columns_are_the_contracts() -> None:
    assert ",".join(COLUMNS) == (
        "prompt_id,category,prompt,base_response,tuned_response,tuned_side,human_verdict,human_outcome,judge_order_1,"
        "judge_order_2,judge_outcome,judge_reason,base_model,adapter,judge_model,base_tokens,tuned_tokens,seed,created_at"
    )


def test_the_file_has_a_bom_and_quotes_every_field(tmp_path: Path) -> None:
    write_csv([ROW], tmp_path / "out.csv")
    data = (tmp_path / "out.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    header, row, end = data.decode("utf-8-sig").split("\r\n")
    assert header == ",".join(f'"{name}"' for name in COLUMNS)
    assert row.count('"') == 2 * len(COLUMNS)
    assert end == ""


def test_pandas_reads_the_same_rows(tmp_path: Path) -> None:
    import pandas

    cells = [cell for cell in TRIGGERS if cell]
    write_csv([replace(ROW, prompt=cell) for cell in cells], tmp_path / "out.csv")
    frame = pandas.read_csv(tmp_path / "out.csv", keep_default_na=False, dtype=str)
    assert [unescape(value) for value in frame["prompt"]] == cells


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    write_csv([ROW], path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_csv([ROW, ROW], path)
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["out.csv"]
