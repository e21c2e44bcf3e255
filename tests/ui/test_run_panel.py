"""A run on the page: its curves, the coach's cards, what it says on the way, its report, and what leads to the next."""

import math
from pathlib import Path

import gradio as gr
import pytest

from core import paths, runs, timeline
from core.coach import Card
from core.errors import RequestError
from core.runs import Run, RunStatus
from core.settings import LOOK_MAX_PAIRS, Method
from core.ui import (
    announcer,
    coach_cards,
    curves,
    next_run,
    report_card,
    run_files,
    run_panel,
    timeline_view,
)
from core.ui.curves import CURVES, EACH_STEP, SMOOTHED
from core.ui.run_panel import RunPanel
from tests.ui.fake_client import FakeClient

HOSTILE = "<img src=x onerror=alert(1)> ![x](http://evil/a.png) **b** | `c` [d](javascript:e)"
SETTINGS = {"learning_rate": 5e-4, "beta": 0.1, "loss": "sigmoid", "epochs": 2, "batch_size": 4, "accumulation": 1,
            "max_length": 512, "gradient_checkpointing": False, "looks": 5}  # fmt: skip
CONFIG = {"method": "dpo", "model": "smollm2-135m-instruct", "base_fingerprint": "ab" * 32, "dataset": "starter",
          "data": "data.jsonl", "data_sha256": "3f9a" * 16, "from_adapter": "", "is_trait_counted": True,
          "settings": SETTINGS, "pinned": ["Why is the sky blue?", "Say hello."]}  # fmt: skip
FLAT = Card("rank", "It ranks but does not speak", "Accuracy is 0.98, and 4 % of words differ from base.",
            "It tells replies apart and says what base says.", "Add an SFT term.", {"loss": "sigmoid+sft"},
            "DECISIONS.md")  # fmt: skip
SPIKE = Card("spike", "The gradient norm jumps", "14 at step 12.", "One batch moved it far.", "Lower the rate.",
             {"learning_rate": 1e-4, "loss": "ipo"}, "PaLM")  # fmt: skip
TALK = Card("cut", "Replies are cut", "31 of 240.", "Their ends are never learned.", "Take other data.")


@pytest.fixture
def panel(client: FakeClient) -> RunPanel:
    panel = RunPanel(client)
    with gr.Blocks():
        panel.build()
        panel.wire({"fn": lambda: None})
    return panel


@pytest.fixture
def run() -> Run:
    """A DPO run in its training, with all its files."""
    run = runs.create(Method.DPO, "dpo-1126-1210", base="smollm2-135m-instruct", dataset="starter", steps=60)
    runs.write_config(run.name, CONFIG)
    (paths.run_dir(run.name) / "data.jsonl").touch()
    return runs.write(run, status=RunStatus.RUNNING, phase="training", step=12)


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[Card]:
    """What the coach says; to be filled."""
    cards: list[Card] = []
    monkeypatch.setattr(run_files, "advise", lambda evidence: list(cards))
    return cards


def shown(panel: RunPanel, run: Run | None) -> dict[str, object]:
    """What the panel shows of the run, by the component's id; of what is only shown or hidden, whether it is there."""
    view = {part.elem_id: update for part, update in panel.view(run).items()}
    return {name: update["visible"] if is_update(update, "visible") else update for name, update in view.items()}


def is_update(update: object, of: str) -> bool:
    return isinstance(update, dict) and update.keys() == {"__type__", of}


def log(run: Run, steps: int, **values: float) -> None:
    for step in range(1, steps + 1):
        runs.append_metrics(run.name, {"step": step, "loss": 1 / step, "rewards/margins": step, "grad_norm": 1.0,
                                       "logps/chosen": -9.0, "logps/rejected": -11.0, **values})  # fmt: skip


def watch(run: Run, *looks: tuple[int, str]) -> None:
    timeline.begin(run.name, CONFIG["pinned"], ["It is blue because air scatters light.", "Hello."])
    for step, said in looks:
        timeline.add(run.name, step, [said, "Hello."], 0.25)


# --- the line ---------------------------------------------------------------------------------------------


def test_the_line_says_how_fast_the_last_step_went(panel, run):
    log(run, 3, pairs_per_s=3.14, tokens_per_s=1234.5, memory_bytes=1.9e9)
    assert shown(panel, run)["run-line"] == (
        "**Running** · step 12 of 60 · 3.1 pairs/s · 1,234 tokens/s · 1.9 GB of memory"
    )
    assert shown(panel, runs.write(run, status=RunStatus.PAUSED))["run-line"] == (
        "**Paused** · step 12 of 60 · go on whenever you like"
    )


@pytest.mark.parametrize(("facts", "words"), [
    ({"follows": "sft-1126-1200"}, "**Running** · step 12 of 60 · second of two: follows sft-1126-1200"),
    ({"then": True}, "**Running** · step 12 of 60 · first of two: DPO follows"),
])  # fmt: skip
def test_of_two_runs_each_says_which_it_is(panel, run, facts, words):
    assert shown(panel, runs.write(run, facts=facts))["run-line"] == words


# --- curves -----------------------------------------------------------------------------------------------


def test_a_curve_skips_what_is_no_number():
    rows = [{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": float("nan")}, {"step": 4, "loss": None},
            {"step": 5, "loss": 1}]  # fmt: skip
    assert curves.logged(rows, "loss") == [(1, 2.0), (5, 1.0)]


def test_smoothing_keeps_a_flat_line_and_halves_a_jump():
    assert curves.smooth([(k, 3.0) for k in range(9)], 0.9) == [(k, pytest.approx(3.0)) for k in range(9)]
    assert curves.smooth([(1, 0.0), (2, 3.0)], 0.5) == [(1, 0.0), (2, pytest.approx(2.0))]


def test_a_long_run_is_drawn_with_few_points_and_every_spike():
    points = [(step, math.sin(step)) for step in range(1, 1001)]
    points[617] = (618, 99.0)
    kept = curves.thin(points)
    assert len(kept) <= 2 * curves.MAX_STRETCHES + 1
    assert (618, 99.0) in kept
    assert kept[-1] == points[-1]
    assert curves.thin(points[:60]) == points[:60]


def test_points_that_are_drawn_stay_where_they_are_while_the_run_goes_on():
    points = [(step, float(step * 7 % 13)) for step in range(1, 1001)]
    assert set(curves.thin(points[:900])[:-1]) <= set(curves.thin(points[:1000]))


def test_a_smoothed_line_keeps_what_was_measured_beneath_it():
    rows = [{"step": step, "loss": 1.0, "logps/chosen": -9.0, "logps/rejected": -11.0} for step in (1, 2)]
    loss, logps = (next(curve for curve in CURVES if curve.id == name) for name in ("loss", "logps"))
    assert [line for _, _, line in curves.marks(loss, rows, 0.6)] == [EACH_STEP, EACH_STEP, SMOOTHED, SMOOTHED]
    assert {line for _, _, line in curves.marks(loss, rows, 0)} == {EACH_STEP}
    assert [line for _, _, line in curves.marks(logps, rows, 0.6)] == ["chosen"] * 2 + ["rejected (dashed)"] * 2


def test_held_out_figures_of_a_look_come_with_their_doubt():
    row = {"step": 12, "eval_reward_accuracy": 0.75, "eval_preference_accuracy": 0.5, "eval_n": LOOK_MAX_PAIRS}
    assert curves.held_out_words([row, {"step": 13}], "dpo") == (
        "Held-out reward accuracy after step 12: **0.75 (0.58 to 0.87)**, on 32 pairs. A look measures no more of them "
        "than that; at the end all are measured."
    )
    assert curves.held_out_words([row], "sft").startswith("Held-out preference accuracy after step 12: **0.50 (")
    assert curves.held_out_words([{"step": 13, "eval_n": 0}], "dpo") == ""


def sent(panel: RunPanel, updates: dict[object, object]) -> dict[str, object]:
    return {part.elem_id: update for part, update in updates.items() if part is not panel.curves.drawn}


def test_what_is_folded_away_is_not_sent_until_it_is_opened(panel, run):
    log(run, 3)
    first = panel.curves.draw(run.name, 0.6, False, None)
    assert {"curve-loss", "curve-margin", "curve-logps"} <= set(sent(panel, first))
    assert "curve-grad-norm" not in sent(panel, first)
    opened = sent(panel, panel.curves.draw(run.name, 0.6, True, first[panel.curves.drawn]))
    assert {"curve-grad-norm", "curve-rate"} <= set(opened)
    assert "curve-loss" not in opened


def test_only_a_curve_that_went_on_is_drawn_again(panel, run):
    log(run, 3)
    drawn = panel.curves.draw(run.name, 0.0, False, None)[panel.curves.drawn]
    assert sent(panel, panel.curves.draw(run.name, 0.0, False, drawn)) == {}
    runs.append_metrics(run.name, {"step": 4, "loss": 0.1})
    assert set(sent(panel, panel.curves.draw(run.name, 0.0, False, drawn))) == {"curve-loss"}


def test_a_step_of_a_long_run_sends_little(panel, run):
    log(run, 1000, **{"rewards/accuracies": 0.5})
    updates = sent(panel, panel.curves.draw(run.name, 0.6, False, None))
    assert (
        sum(len(update["value"].to_json(orient="split")) for update in updates.values() if "value" in update) < 60_000
    )


def test_sft_shows_no_rewards(panel):
    run = runs.create(Method.SFT, "sft-1", base="b", dataset="starter", steps=2)
    updates = sent(panel, panel.curves.draw(run.name, 0.6, True, None))
    assert {name for name, update in updates.items() if isinstance(update, dict) and update["visible"]} == {
        "curve-loss", "curve-grad-norm", "curve-rate", "curve-held-out-preference",
    }  # fmt: skip


def test_the_page_is_told_that_there_is_something_new_to_draw(panel, run):
    before = panel.curves.news_of(run)
    log(run, 1)
    assert panel.curves.news_of(run) != before


# --- buttons ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "there"), [
    ({}, {"pause", "stop", "discard"}),
    ({"status": RunStatus.PAUSED}, {"go-on", "stop", "discard"}),
    ({"phase": "counting the trait"}, {"skip-trait", "discard"}),
    ({"status": RunStatus.INTERRUPTED}, {"resume"}),
    ({"status": RunStatus.FINISHED}, {"compare-now", "chat-now", "train-again"}),
])  # fmt: skip
def test_only_the_buttons_that_do_something_are_there(panel, run, change, there):
    run = runs.write(run, **change)
    if run.status is RunStatus.FINISHED:
        paths.write_json(runs.adapter_dir(run.name) / "adapter_config.json", {})
    seen = shown(panel, run)
    buttons = ("pause", "go-on", "stop", "discard", "skip-trait", "compare-now", "chat-now", "resume", "train-again",
               "try-changes")  # fmt: skip
    assert {name for name in buttons if seen[name]} == there


def test_discard_asks_before_it_does_anything(panel, client, run, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(gr, "Info", lambda message, **_: said.append(message))
    assert panel.discard_run() == gr.update(visible=False)
    assert client.asked == [("discard_run",)]
    assert said == ["It stops after this step, and nothing of it is kept."]
    assert run_panel.SURE == (
        "**Discard this run?** Its adapter, its curves and its checkpoints are deleted. Stop and keep would keep them."
    )


# --- the coach --------------------------------------------------------------------------------------------


def test_a_healthy_run_shows_no_card(panel, run, advised):
    seen = shown(panel, run)
    assert (seen["coach"], seen["coach-0"], seen["apply-0"], seen["try-changes"]) == (False, "", False, False)


def test_a_card_says_what_was_seen_what_it_means_and_what_to_do(panel, run, advised):
    advised += [FLAT, TALK]
    seen = shown(panel, run)
    assert seen["coach-0"] == (
        "#### It ranks but does not speak\n\nAccuracy is 0.98, and 4 % of words differ from base.\n\n"
        "It tells replies apart and says what base says.\n\n**What to do:** Add an SFT term.\n\n"
        "*Source: DECISIONS.md*"
    )
    assert (seen["coach"], seen["apply-0"], seen["apply-1"]) == (True, True, False)


def test_the_gravest_four_cards_are_shown(panel, run, advised):
    advised += [FLAT, SPIKE, TALK, FLAT, Card("fifth", "Fifth", "", "", "")]
    assert "Fifth" not in str(panel.view(run))


def test_a_cards_text_stays_text():
    words = coach_cards.card_words(Card("x", HOSTILE, HOSTILE, HOSTILE, HOSTILE, {}, HOSTILE))
    assert not any(alive in words for alive in ("<img", "![x]", "](", "`c`"))


@pytest.mark.parametrize(("damaged", "is_reported"), [("settings: [", False), ("settings: [1]", True)])
def test_a_damaged_run_yaml_takes_nothing_else_away(panel, run, damaged, is_reported):
    (paths.run_dir(run.name) / "run.yaml").write_text(damaged, encoding="utf-8")
    assert panel.timeline.show(run.name, None, 0, ("", 0))[2] == gr.update(visible=False)
    seen = shown(panel, runs.write(run, status=RunStatus.FINISHED))
    assert (seen["coach"], seen["report"]) == (False, is_reported)


def test_a_rule_that_stumbles_costs_the_cards_and_is_on_record(panel, run, monkeypatch, caplog):
    def stumble(evidence):
        raise TypeError("a loss of 'x'")

    monkeypatch.setattr(run_files, "advise", stumble)
    assert shown(panel, run)["coach"] is False
    assert "a loss of 'x'" in caplog.text


def lead(panel: RunPanel, run: Run, elem_id: str):
    """The request that a button of the panel leads to."""
    _, request_from = next(found for found in panel.leads if found[0].elem_id == elem_id)
    return request_from(run.name, panel.view(run)[panel.coach.advised])


def test_a_cards_button_sets_its_change_on_the_same_data_and_settings(panel, run, advised):
    advised += [TALK, FLAT]
    request = lead(panel, run, "apply-1")
    assert request.dataset == str(paths.run_dir(run.name) / "data.jsonl")
    assert (request.method, request.model, request.pinned) == ("dpo", CONFIG["model"], tuple(CONFIG["pinned"]))
    assert request.settings == SETTINGS | {"loss": "sigmoid+sft"}


def test_a_card_that_no_longer_stands_leads_nowhere(panel, run, advised):
    advised.append(FLAT)
    _, request_from = next(found for found in panel.leads if found[0].elem_id == "apply-0")
    log(run, 1)
    advised[:] = [SPIKE]
    with pytest.raises(RequestError) as refusal:
        request_from(run.name, ["rank"])
    assert str(refusal.value) == "The run has gone on, and this advice no longer stands. Look at the cards again."


def test_all_changes_together_let_the_graver_card_decide(panel, run, advised):
    advised += [FLAT, SPIKE]
    assert lead(panel, run, "try-changes").settings == SETTINGS | {"loss": "sigmoid+sft", "learning_rate": 1e-4}


def test_training_again_starts_from_the_runs_own_adapter(panel, run):
    assert lead(panel, run, "train-again").from_adapter == run.name
    assert next_run.request_of(run.name).from_adapter == ""


def test_another_method_comes_with_its_own_rates(run):
    request = next_run.request_of(run.name, {"method": "sft+dpo", "sft_epochs": 3})
    assert request.method == Method.SFT_DPO
    assert request.settings == {"beta": 0.1, "max_length": 512, "gradient_checkpointing": False, "looks": 5,
                                "sft_epochs": 3}  # fmt: skip


def test_the_first_of_two_runs_is_done_again_with_the_second(run):
    first = {"learning_rate": 2e-4, "epochs": 1, "max_length": 512}
    then = {"learning_rate": 5e-5, "epochs": 2, "max_length": 512, "run": "both"}
    runs.write_config(run.name, CONFIG | {"method": "sft", "settings": first, "then": then})
    request = next_run.request_of(run.name, {"learning_rate": 1e-4})
    assert request.method == Method.SFT_DPO
    assert request.settings == {"learning_rate": 5e-5, "epochs": 2, "max_length": 512, "sft_learning_rate": 1e-4,
                                "sft_epochs": 1}  # fmt: skip
    assert next_run.request_of(run.name, {"method": "dpo", "learning_rate": 1e-5}).settings["learning_rate"] == 1e-5


def test_a_run_that_was_cut_off_before_it_began_leads_nowhere():
    runs.create(Method.DPO, "dpo-1")
    with pytest.raises(RequestError) as refusal:
        next_run.request_of("dpo-1")
    assert str(refusal.value) == (
        "The run 'dpo-1' has no run.yaml or no data.jsonl, so nothing can follow on it. Fill in the form instead."
    )


# --- watch it learn ---------------------------------------------------------------------------------------


def test_an_empty_timeline_says_when_the_first_look_comes(panel, run):
    seen, words, looks, *_ = panel.timeline.show(run.name, None, 0, ("", 0))
    assert words == (
        "Base answers 2 pinned prompts before the first step, and the policy at every look. The first look comes after "
        "step 12."
    )
    assert (seen, looks["visible"]) == ((run.name, 0), False)
    runs.write(run, status=RunStatus.FINISHED)
    assert panel.timeline.show(run.name, None, 0, ("", 0))[1] == "Nothing was watched in this run: it made no look."


def test_a_slider_at_its_end_follows_the_newest_look_and_any_other_stays(panel, run):
    watch(run, (12, "Blue."), (24, "It is blue."))
    seen, words, _, prompt, slider, *_ = panel.timeline.show(run.name, None, 0, ("", 0))
    assert (prompt["value"], slider["maximum"], slider["value"]) == ("0", 2, 2)
    assert words.startswith("**Look 2 of 2 so far**, after step 24:")
    timeline.add(run.name, 36, ["It is blue because of air.", "Hello."], 0.25)
    _, words, _, _, slider, *_ = panel.timeline.show(run.name, "0", 2, seen)
    assert (slider["value"], words[:29]) == (3, "**Look 3 of 3 so far**, after")
    _, words, _, _, slider, *_ = panel.timeline.show(run.name, "0", 1, seen)
    assert (slider["value"], words[:29]) == (1, "**Look 1 of 3 so far**, after")


def test_a_slider_that_is_being_moved_is_not_moved_back(panel, run):
    watch(run, (12, "Blue."), (24, "It is blue."))
    _, _, _, prompt, slider, *_ = panel.timeline.show(run.name, "1", 1, (run.name, 2))
    assert (prompt, slider) == (gr.skip(), gr.skip())


def test_another_run_begins_with_its_newest_look(panel, run):
    watch(run, (12, "Blue."))
    _, _, _, prompt, slider, *_ = panel.timeline.show(run.name, "1", 0, ("dpo-1", 5))
    assert (prompt["value"], slider["value"]) == ("0", 1)


@pytest.mark.parametrize("at", [float("nan"), -3, 99, 0.5])
def test_a_place_that_is_none_is_the_newest_look(panel, run, at):
    watch(run, (12, "Blue."), (24, "It is blue."))
    assert panel.timeline.show(run.name, "7", at, (run.name, 2))[1].startswith("**Look 2 of 2")


def test_a_look_is_said_with_how_far_it_is_from_base(run):
    watch(run, (12, "It is blue because dust scatters light."))
    found = timeline.read(run.name)
    assert timeline_view.look_words(found, 0, 1, False) == (
        "**Look 1 of 1**, after step 12: 14% of words differ from base; over all 2 pinned prompts 25%."
    )
    assert timeline_view.look_words(found, 0, 0, False) == (
        "**Base**, before the first step. Move the slider to see the 1 look."
    )


def test_each_side_is_the_whole_response_and_marks_its_own_words(run):
    watch(run, (12, "It is blue because dust\nscatters light."))
    base, now = timeline_view.sides(timeline.read(run.name), 0, 1)
    assert "".join(text for text, _ in base) == "It is blue because air scatters light."
    assert "".join(text for text, _ in now) == "It is blue because dust\nscatters light."
    assert [text.strip() for text, mark in base if mark == "−"] == ["air"]
    assert [text.strip() for text, mark in now if mark == "+"] == ["dust"]


# --- the report -------------------------------------------------------------------------------------------


def test_the_report_says_what_was_trained_on_what(panel, run):
    facts = {"pairs": 120, "replies": 240, "cut_replies": 3}
    assert shown(panel, run)["report"] is False
    seen = shown(panel, runs.write(run, status=RunStatus.FINISHED, step=60, facts=facts, result={"held_out": 40},
                                   train_s=233.0, peak_memory_bytes=2_100_000_000))  # fmt: skip
    assert seen["report"] is True
    assert seen["report-facts"].splitlines()[2:] == [
        "| Method | DPO |", "| Base | smollm2-135m-instruct |", "| Data | starter |",
        "| SHA-256 of the data | 3f9a3f9a3f9a… |", "| Trained on | 120 pairs |", "| Held out | 40 pairs |",
        "| Cut at max length | 3 of 240 replies |", "| Steps | 60 of 60 |", "| Time | 4 min |",
        "| Memory at most | 2.1 GB |",
    ]  # fmt: skip
    assert "| Learning rate | 5e-4 |" in seen["report-settings"]
    assert "| Batch size (rows) | 4 |" in seen["report-settings"]
    assert "| Gradient checkpointing | off |" in seen["report-settings"]
    assert seen["reproduce"].endswith("run.yaml")
    assert seen["launch"].endswith("run.yaml --batch-size 2")


def test_a_reports_cells_stay_text():
    words = report_card.table({HOSTILE: HOSTILE})
    assert not any(alive in words for alive in ("<img", "![x]", "](", "`c`"))
    assert words.splitlines()[-1].count("|") == 3


def test_the_download_is_a_copy_among_what_the_page_hands_out(panel, run):
    update = report_card._copied((run.name, (0, 0)))
    assert Path(update["value"]).is_relative_to(paths.page_dir())
    with open(update["value"], encoding="utf-8") as file:
        assert "learning_rate: 0.0005" in file.read()


# --- the browser's tab ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "words"), [
    ({}, "12/60 dpo-1126-1210"),
    ({"status": RunStatus.PAUSED}, "Ⅱ 12/60 dpo-1126-1210"),
    ({"phase": "reference pass"}, "● dpo-1126-1210 reference pass"),
    ({"status": RunStatus.FINISHED}, "✓ dpo-1126-1210 finished"),
    ({"status": RunStatus.FAILED}, "✕ dpo-1126-1210 failed"),
])  # fmt: skip
def test_the_tabs_title_says_how_the_run_stands(run, change, words):
    assert announcer.title_words(runs.write(run, **change)) == words
