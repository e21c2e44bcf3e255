"""The plan's words: what will run, what it costs, where it will not fit; nothing in them alive as Markdown or HTML."""

from dataclasses import replace

import pytest

from core.presets import Move, Seat
from core.settings import BASE_LOSSES, TRAINING, Method, Settings, Size
from core.ui import plan_views
from tests.ui.fake_client import PLAN
from tests.ui.test_views import HOSTILE


def test_no_name_reason_or_data_becomes_markup():
    plan = replace(PLAN, base=HOSTILE, left_out={HOSTILE: 1}, fit="tight", fix_words=HOSTILE, parts={HOSTILE: 1})
    turned = Move(TRAINING["learning_rate"], HOSTILE, HOSTILE, True, "")
    for words in (
        plan_views.plan_words(plan, HOSTILE, from_adapter=HOSTILE),
        plan_views.memory_picture(plan),
        plan_views.turned_words([turned]),
        plan_views.moved_words(Seat(), Seat(Method.SFT), [turned]),
    ):
        assert not any(markup in words for markup in ("<img", "![x]", "]("))


def test_the_plan_is_in_plain_words():
    assert plan_views.plan_words(PLAN, "the starter data") == (
        "**DPO** on **120 pairs** from the starter data, 40 held out to measure on.\n\n"
        "No row is left out.\n\n"
        "LoRA on **smollm2-135m-instruct**: 60 steps of 4 pairs each.\n\n"
        "About **4 min**; **2.1 GB** of the 8.0 GB of memory there are. Nothing is downloaded."
    )


def test_the_plan_names_what_is_left_out_downloaded_and_unknown():
    plan = replace(PLAN, left_out={"both replies are the same": 2}, download_bytes=14_500_000_000, held_out=0)
    words = plan_views.plan_words(plan, "your file")
    assert "2 rows are left out: both replies are the same (2)." in words
    assert "**14.5 GB** will be downloaded first." in words
    assert "none held out, so no held-out figures" in words


def test_a_plan_for_rows_that_are_not_here_yet_promises_nothing():
    plan = replace(PLAN, pairs=1000, held_out=200, duration_s=None, memory_bytes=None, fit="unknown", is_read=False)
    assert plan_views.plan_words(plan, "HH-RLHF").startswith(
        "**DPO** on **up to 1,000 pairs** from HH-RLHF, up to 200 held out to measure on.\n\n"
        "Which rows are left out is known once they are read."
    )
    assert "The time is known once it has begun." in plan_views.plan_words(plan, "HH-RLHF")


def test_rows_that_were_read_are_told_of_though_the_time_is_not_known():
    words = plan_views.plan_words(replace(PLAN, duration_s=None), "the starter data")
    assert "**120 pairs** from the starter data, 40 held out" in words
    assert "No row is left out." in words
    assert "The time is known once it has begun" in words


def test_a_base_that_computes_each_prompt_twice_is_told_of():
    words = plan_views.plan_words(replace(PLAN, twice="sharing it has not been tried with gpt2 models"), "your file")
    assert "Each prompt is computed twice: sharing it has not been tried with gpt2 models." in words
    assert "twice" not in plan_views.plan_words(PLAN, "your file")


def test_replies_that_lose_their_end_are_told_of_before_the_start():
    settings = Settings.of(Method.DPO, Size.SMALL, {"max_length": 128})
    cut = plan_views.plan_words(replace(PLAN, cut_replies=31), "your file", settings=settings)
    assert "31 replies are cut at the max length of 128 tokens." in cut
    assert "cut at" not in plan_views.plan_words(PLAN, "your file", settings=settings)


@pytest.mark.parametrize(("num_bytes", "is_data_on_hub", "words"), [
    (0, False, "Nothing is downloaded."),
    (0, True, "The data is fetched from the Hub when it starts, unless it was before."),
    (14_500_000_000, False, "**14.5 GB** will be downloaded first."),
    (14_500_000_000, True, "**14.5 GB** will be downloaded first. The data is fetched from the Hub when it starts, "
     "unless it was before."),
])  # fmt: skip
def test_the_plan_says_what_is_fetched(num_bytes, is_data_on_hub, words):
    plan = replace(PLAN, download_bytes=num_bytes)
    assert plan_views.plan_words(plan, "HH-RLHF", is_data_on_hub).endswith(f"there are. {words}")


@pytest.mark.parametrize(("fit", "words"), [("fits", ""), ("unknown", ""), ("tight", "**It is tight:**"),
                                            ("won't fit", "**It won't fit here.**")])  # fmt: skip
def test_short_memory_is_said_before_it_is_felt(fit, words):
    assert plan_views.fit_words(replace(PLAN, fit=fit)).startswith(words)


@pytest.mark.parametrize(("method", "words"), [
    ("dpo", "LoRA on **smollm2-135m-instruct**, from **sft-1** and held to it: 60 steps of 4 pairs each."),
    ("sft", "LoRA on **smollm2-135m-instruct**, from **sft-1**: 60 steps of 4 pairs each."),
])  # fmt: skip
def test_the_plan_says_what_it_starts_from_and_what_it_is_held_to(method, words):
    assert words in plan_views.plan_words(replace(PLAN, method=method), "your file", from_adapter="sft-1")


def test_memory_is_drawn_by_part_against_what_there_is():
    parts = {"weights": 4_000_000_000, "activations": 6_000_000_000}
    fits = plan_views.memory_picture(replace(PLAN, parts=parts, memory_limit=20_000_000_000))
    assert 'aria-label="Memory at most: 10.0 GB of 20.0 GB"' in fits
    assert 'style="width:20.00%"' in fits
    assert "<li><i></i>weights 4.0 GB</li><li><i></i>activations 6.0 GB</li>" in fits
    assert "<b" not in fits
    # Where it does not fit, a mark stands at what there is.
    too_much = plan_views.memory_picture(replace(PLAN, parts=parts, memory_limit=5_000_000_000))
    assert '<b style="left:50.00%"></b>' in too_much
    assert "<li><b></b>5.0 GB there are</li>" in too_much
    assert plan_views.memory_picture(PLAN) == ""


def test_every_loss_and_method_has_a_sentence():
    assert set(plan_views.LOSS_NOTES) == set(BASE_LOSSES)
    assert set(plan_views.METHOD_NOTES) == set(plan_views.METHOD_NAMES) == set(Method)
