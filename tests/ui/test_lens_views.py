"""What the lens says of a DataView, word for word, and that no text of the data ever becomes more than text."""

from dataclasses import replace

import pytest

from core.file_rows import LeftOut, Reason
from core.messages import ask
from core.ui import lens_views as views
from core.ui.compare_views import ONLY_BASE
from core.wire import DataView, PairView, SpanKind

HOSTILE = "<img src=x onerror=alert(1)> **bold** [link](http://x) `code`"
VIEW = DataView(
    found="Columns prompt, chosen and rejected.", num_rows=9, train_rows=(1, 2, 3, 5), held_out_rows=(8, 9),
    left_out=(LeftOut(4, Reason.DUPLICATE), LeftOut(6, Reason.NOT_JSON, "line 1"), LeftOut(7, Reason.DUPLICATE)),
    prompt_lengths=(40, 40, 40, 40, 40, 40), chosen_lengths=(60, 20, 480, 60, 60, 60),
    rejected_lengths=(80, 10, 20, 80, 80, 80), num_cut=1, max_length=512, base="tiny", sha256="ab" * 32,
)  # fmt: skip
PAIR = PairView(
    1, ask(HOSTILE), f"Yes, it is {HOSTILE}", "Yes, it was",
    (("Hi", SpanKind.PROMPT), (HOSTILE, SpanKind.TRAINED)), (),
)  # fmt: skip


def test_the_summary_says_what_was_found_and_how_it_is_divided():
    assert views.summary(VIEW) == (
        "Columns prompt, chosen and rejected.\n\n**4 pairs to train on**, 2 held out, 3 left out, of 9 rows read. "
        "Tokens and chat template are those of tiny."
    )
    assert "**4 examples to train on**, 2 held out, none left out," in views.summary(
        replace(VIEW, is_paired=False, left_out=())
    )


def test_figures_carry_their_doubt():
    assert views.figures(VIEW) == (
        "- Tokens at the median: prompt 40, chosen 60, rejected 80.\n"
        "- Cut at max length (512 tokens, prompt and reply together): 1 of 12 replies (8.3%).\n"
        "- The chosen reply is the longer one in 2 of 6 pairs (0.33; 0.10 to 0.70).\n"
        "- Rows that repeat an earlier one: 2; pairs whose two replies are the same: 0. Both are left out."
    )


def test_lengths_of_the_first_pairs_alone_are_said_to_be_that():
    part = replace(VIEW, prompt_lengths=(40,), chosen_lengths=(60,), rejected_lengths=(80,), num_cut=0)
    assert "- Lengths and cuts are those of the first 1 pairs." in views.figures(part)


def test_data_without_a_pair_that_fits_has_figures_all_the_same():
    nothing = replace(
        VIEW, train_rows=(), held_out_rows=(), prompt_lengths=(), chosen_lengths=(), rejected_lengths=(), num_cut=0
    )
    assert views.figures(nothing).startswith("- Rows that repeat an earlier one: 2;")
    assert views.histograms(nothing) == (1, {})


@pytest.mark.parametrize(("which", "rows"), [
    (views.Rows.ALL, (1, 2, 3, 5, 8, 9)), (views.Rows.TRAIN, (1, 2, 3, 5)), (views.Rows.HELD_OUT, (8, 9)),
    (views.Rows.CUT, (3,)), (views.Rows.LEFT_OUT, (4, 6, 7)), (Reason.DUPLICATE, (4, 7)), ("no such thing", ()),
])  # fmt: skip
def test_rows_are_leafed_through_by_what_becomes_of_them(which, rows):
    assert views.rows_of(VIEW, which) == rows


def test_only_what_holds_rows_can_be_chosen():
    assert [label for label, _ in views.row_choices(VIEW)] == [
        "Every pair (6)", "To train on (4)", "Held out (2)", "Cut at max length (1)", "Left out (3)",
        "Left out: repeats an earlier row (2)", "Left out: not valid JSON (1)",
    ]  # fmt: skip
    whole = replace(VIEW, left_out=(), chosen_lengths=(60,) * 6)
    assert [which for _, which in views.row_choices(whole)] == ["every pair", "to train on", "held out"]


@pytest.mark.parametrize(("row", "step", "found"), [
    (1, 1, 2), (5, 1, 1), (1, -1, 5), (99, 1, 1), (None, 0, 1),
])  # fmt: skip
def test_leafing_goes_round_and_starts_at_the_first(row, step, found):
    assert views.neighbour((1, 2, 5), row, step) == found
    assert views.neighbour((), row, step) is None


@pytest.mark.parametrize(("row", "title"), [
    (2, "**Row 2** · to train on"), (9, "**Row 9** · held out"),
    (6, "**Row 6** · left out: not valid JSON (line 1)"),
])  # fmt: skip
def test_a_row_says_what_becomes_of_it(row, title):
    assert views.row_title(VIEW, row) == title


def test_every_length_is_in_the_bin_that_its_picture_says():
    width, sides = views.histograms(VIEW)
    assert list(sides) == ["prompt", "chosen", "rejected"]
    assert width == 20
    assert sides["rejected"] == [(10, 1), (30, 1), (50, 0), (70, 0), (90, 4)]
    assert all(sum(number for _, number in bins) == 6 for bins in sides.values())
    assert "rejected" not in views.histograms(replace(VIEW, is_paired=False))[1]


def test_bars_of_reasons_say_their_number():
    bars = views.reason_bars(VIEW)
    assert "<span>repeats an earlier row</span>" in bars
    assert "<span>2 rows</span>" in bars
    assert 'style="left:0;width:50.0%"' in bars
    assert views.reason_bars(replace(VIEW, left_out=())) == ""


def test_markup_in_the_data_stays_text():
    said = replace(VIEW, found=HOSTILE, base=HOSTILE, left_out=(LeftOut(4, Reason.NOT_TEXT, HOSTILE),))
    for markdown in (views.summary(said), views.row_title(said, 4)):
        assert not set("<`[") & set(markdown)
        assert "**bold**" not in markdown
    assert views.left_out_table(said) == [["4", "something else where text belongs", HOSTILE]]
    assert "".join(text for text, mark in views.diff(PAIR) if mark != ONLY_BASE) == PAIR.chosen
    assert views.seen(PAIR.chosen_spans) == [("Hi", None), (HOSTILE, "trained on")]


def test_a_reply_of_megabytes_is_shown_in_part_and_says_so():
    long = "word " * 100_000
    assert views.shortened(long).endswith(" … 492,000 more characters")
    assert sum(len(text) for text, _ in views.diff(replace(PAIR, chosen=long))) < 20_000


def test_a_pair_that_the_template_refuses_has_nothing_that_the_model_sees():
    assert views.seen(()) == [("The model's chat template cannot take this pair, so the model will not see it.", None)]
