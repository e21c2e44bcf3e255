"""What is written for others to open: tables that nothing runs, files that stay whole, logs that stay small."""

import csv
import errno
import io
import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from core import cli, disk, engine_process, paths, redact
from core.blind import HumanVerdict
from core.export import COLUMNS, escape, to_csv, unescape, write_csv
from core.headless_compare import _reported
from tests.fake_gemini import FakeGemini, blocked, prefers, verdict
from tests.faults.figures.data import write_cells
from tests.test_compare import FakeEngine, begin, judge_at, judged_alone, results, vote_all
from tests.test_export import ROW

HIDDEN = ["", " ", "\u00a0", "\u200b", "\u061c", "\u2066", "\ufeff", "\x01", "\x7f", "\u3000", "\U000e0041"]
WIDTHS = ["=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "﹢", "﹣", "﹫"]


@pytest.mark.parametrize("trigger", WIDTHS)
@pytest.mark.parametrize("hidden", HIDDEN, ids=ascii)
def test_129_no_formula_starts_a_cell_whatever_hides_it_and_however_wide_it_is(hidden, trigger):
    cell = f"{hidden}{trigger}1+1"
    assert escape(cell) == f"'{cell}"
    assert unescape(escape(cell)) == cell


def test_130_cells_of_any_text_come_back_as_they_were():
    assert write_cells(0).wrong == ()


def test_131_what_looks_like_a_number_or_nothing_stays_text(tmp_path):
    import pandas

    cells = ["NA", "", "007", "1e5", "nan", "inf", "-inf", "None", "null", "TRUE", "1,5", "2026-11-22"]
    write_csv([replace(ROW, prompt=cell) for cell in cells], tmp_path / "out.csv")
    frame = pandas.read_csv(tmp_path / "out.csv", keep_default_na=False, dtype=str)
    assert [unescape(value) for value in frame["prompt"]] == cells
    assert list(frame["tuned_tokens"]) == [""] * len(cells)


def test_131_a_win_rate_of_nothing_is_null_and_its_table_is_whole(tmp_path):
    comparison = begin(2)
    comparison.run(FakeEngine())
    vote_all(comparison, lambda item_id: HumanVerdict.SKIP)
    found = _reported(comparison, tmp_path / "out.csv")
    assert (found["n"], found["no_verdict"], found["win_rate"], found["low"]) == (0, 2, None, None)
    assert len(list(csv.reader((tmp_path / "out.csv").open(newline="")))) == 3


def test_132_an_export_while_verdicts_arrive_is_of_one_moment():
    comparison = judged_alone(30)
    with FakeGemini(default=lambda asked: blocked()) as server:
        comparison.run(FakeEngine(), judge_at(server))
    comparison.retry("blocked")
    with FakeGemini(default=prefers(len)) as server:
        judging = threading.Thread(target=comparison.run, args=(FakeEngine(), judge_at(server)))
        judging.start()
        tables = [to_csv(results(comparison).rows)]
        while judging.is_alive():
            tables.append(to_csv(results(comparison).rows))
        judging.join()
    tables.append(to_csv(results(comparison).rows))
    for table in tables:
        rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"), newline="")))
        assert (len(rows), set(rows[0])) == (30, set(COLUMNS))
        for row in rows:
            both = row["judge_order_1"] == row["judge_order_2"] == "tuned"
            assert row["judge_outcome"] == ("win" if both else "no_verdict")
    assert tables[-1].count('"win"') == 30


FULL = OSError(errno.ENOSPC, "No space left on device")
SENTENCE = "The disk is full, so this could not be saved. Put that right and try again."


def test_133_a_full_disk_is_one_sentence_in_a_terminal_and_on_the_page(monkeypatch):
    from core.ui import notices

    said: list[str] = []
    monkeypatch.setattr(notices.gr, "Warning", lambda message, **_: said.append(message))
    notices.show(FULL)
    assert said == [f"<strong>It could not be saved</strong><br>{SENTENCE}"]
    assert (cli._record(FULL), disk.sentence(FULL), disk.sentence(ValueError("x"))) == (SENTENCE, SENTENCE, "")


def test_133_a_full_disk_takes_the_files_from_a_result_and_not_the_result(monkeypatch):
    from core.ui import results_panel

    class Worker:
        def current(self):
            return comparison

    shown: list[Exception] = []
    comparison = judged_alone(2)
    with FakeGemini(default=lambda asked: verdict()) as server:
        comparison.run(FakeEngine(), judge_at(server))

    def full(rows: object, path: Path) -> None:
        raise FULL

    monkeypatch.setattr(results_panel, "write_csv", full)
    monkeypatch.setattr(results_panel, "show", shown.append)
    panel = results_panel.ResultsPanel(Worker())
    assert panel._file(".csv", "new")["value"] is None
    assert shown == [FULL]


def test_134_the_logs_of_page_and_commands_never_grow_beyond_their_cap():
    paths.ensure_home()
    log = logging.getLogger("a test's own")
    log.propagate = False
    log.addHandler(handler := redact.open_log("commands.log"))
    for _ in range(40):
        log.error("%s", "x" * (redact.MAX_LOG_BYTES // 8))
    handler.close()
    assert sum(file.stat().st_size for file in paths.logs_dir().glob("commands.log*")) <= 2 * redact.MAX_LOG_BYTES


def test_134_the_engines_log_begins_anew_under_those_who_write_to_it(tmp_path):
    path = tmp_path / "engine.log"
    log = path.open("a", buffering=1)
    other = os.dup(log.fileno())
    for number in range(4):
        os.write(other, b"x" * (engine_process.MAX_LOG_BYTES + 1))
        engine_process.rotate(log, path, other)
        log.write(f"{number}\n")
    os.write(other, b"from C")
    assert path.read_text() == "3\nfrom C"
    assert path.with_suffix(".log.1").stat().st_size == engine_process.MAX_LOG_BYTES + 3
    log.close()
    os.close(other)
