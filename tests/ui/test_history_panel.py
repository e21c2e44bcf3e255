"""The history on the page: what the table holds, what is done with a run, several of them on one plot."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from core import history, paths, push, runs
from core.errors import PlaygroundError
from core.runs import Run, RunStatus
from core.settings import Method
from core.ui import history_views as views
from core.ui.history_panel import CHOOSE, NOT_LOGGED, HistoryPanel
from core.ui.takeaway_panel import ADAPTER, MERGED
from tests.ui.fake_client import FakeClient

DONE = {
    "preference_accuracy_base": 0.55, "preference_accuracy_tuned": 0.85, "held_out": 40,
    "trait": {"n": 40, "base": 3, "tuned": 29, "skipped": False},
}  # fmt: skip
HOSTILE = "# <script>alert(1)</script> **bold** [x](javascript:y) | `z`"


@pytest.fixture
def panel(client: FakeClient) -> HistoryPanel:
    with gr.Blocks():
        panel = HistoryPanel(client)
        panel.build()
    return panel


def made(name: str, status: RunStatus = RunStatus.FINISHED, margins: tuple[float, ...] = (), **config) -> Run:
    run = runs.create(Method.DPO, name, base="/bases/tiny", dataset="/up/load/my pairs.jsonl", steps=60)
    runs.write_config(name, {"method": "dpo", "model": "tiny", **config})
    for step, margin in enumerate(margins, 1):
        runs.append_metrics(name, {"step": step, "loss": 1 / step, "rewards/margins": margin})
    return runs.write(run, status=status, step=60 if status is RunStatus.FINISHED else 10)


def give_adapter(name: str) -> None:
    folder = runs.adapter_dir(name)
    folder.mkdir()
    (folder / push.CONFIG).write_text(json.dumps({"r": 4}))
    (folder / push.WEIGHTS).write_text("weights")


def table(panel: HistoryPanel) -> dict[str, list[str]]:
    return {row[0]: row for row in panel.view(runs.list_runs())[panel.table]}


def is_skip(update: object) -> bool:
    return update == gr.skip()


# The table


def test_a_row_says_how_a_run_went_in_figures_and_in_a_curve(panel):
    runs.write(made("one", margins=tuple(range(1, 21))), result=DONE)
    history.note("one", "the\none to keep " + "x" * 80)
    row = table(panel)["one"]
    assert len(row) == len(views.HISTORY) == len(views.WIDTHS)
    assert row[1:5] == ["✓ finished", "▁▂▃▃▄▅▆▆▇█ margin 1.50 → 19.50", "0.55 → 0.85 (n=40)", "3 → 29 of 40"]
    assert row[5] == "the one to keep …"
    assert row[6] == "DPO · my pairs.jsonl · tiny"


def test_the_steps_of_a_run_that_goes_on_leave_the_table_as_it_is(page):
    run = made("goes-on", RunStatus.RUNNING, margins=(1.0, 2.0))
    seen = page.view(None, "")[page.seen]
    runs.append_metrics("goes-on", {"step": 3, "loss": 0.1, "rewards/margins": 3.0})
    runs.write(run, step=11, eta_s=40.0)
    sent = page.view(seen, "")
    assert page.chip in sent
    assert page.train.history.table not in sent
    runs.write(run, status=RunStatus.FINISHED)
    assert table(page.train.history)["goes-on"][1:3] == ["✓ finished", "▁▅█ margin 1.00 → 3.00"]


@pytest.mark.parametrize("damage", [
    "{", '{"status": "finished", "result": {"preference_accuracy_base": "x", "preference_accuracy_tuned": []}}',
    '{"status": "finished", "result": {"trait": 7}}', '{"status": "finished", "result": {"trait": {"skipped": false}}}',
])  # fmt: skip
def test_a_damaged_run_is_flagged_and_the_others_are_listed(panel, damage):
    made("sound")
    made("damaged")
    (paths.run_dir("damaged") / "status.json").write_text(damage)
    (paths.run_dir("damaged") / "note.txt").write_bytes(b"\xff\xfe")
    (paths.run_dir("damaged") / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": "x"}\n\xff')
    found = table(panel)
    assert found.keys() == {"sound", "damaged"}
    assert found["damaged"][1] == "✕ damaged"
    assert found["sound"][1] == "✓ finished"


def test_a_page_with_two_hundred_runs_looks_again_in_no_time(panel):
    for number in range(200):
        made(f"run-{number:03}", margins=(1.0, 2.0))
    past = runs.list_runs()
    assert len(panel.view(past)[panel.table]) == 200
    start = time.process_time()
    panel.view(past)
    # A look a second may take the processor a twentieth of it; three times that on a busy machine.
    assert time.process_time() - start < 0.15


# One run


def picked(panel: HistoryPanel, name: str) -> list:
    return panel.pick(SimpleNamespace(row_value=[name, "✓ finished"]))


def test_the_chosen_run_is_followed_to_its_end(panel):
    run = made("going", RunStatus.RUNNING)
    assert "● running" in picked(panel, "going")[2]
    runs.write(run, status=RunStatus.STOPPED)
    headline, resume = panel.follow("going")
    assert "■ stopped" in headline
    assert resume["visible"]
    assert all(is_skip(update) for update in panel.follow("gone"))


def test_a_chosen_row_offers_what_can_be_done_with_that_run(panel):
    made("stopped", RunStatus.STOPPED)
    made("done")
    give_adapter("done")
    history.note("done", HOSTILE)
    name, card, headline, resume, note, field, asking, takeaway, *_ = picked(panel, "done")
    assert (name, field, note, headline) == (
        "done",
        "done",
        HOSTILE,
        "### done\n✓ finished · DPO · my pairs.jsonl · tiny",
    )
    assert (card["visible"], resume["visible"], asking["visible"], takeaway["visible"]) == (True, False, False, True)
    name, _, headline, resume, _, _, _, takeaway, *_ = picked(panel, "stopped")
    assert headline == "### stopped\n■ stopped at 10 of 60 · DPO · my pairs.jsonl · tiny"
    assert (resume["visible"], takeaway["visible"]) == (True, False)


def test_open_and_resume_lead_to_the_run(panel, client):
    made("stopped", RunStatus.STOPPED)
    for lead in (panel.open_run, panel.resume_run):
        tabs, chosen = lead("stopped")
        assert (tabs.selected, chosen) == ("run", "stopped")
    assert client.asked == [("resume_run", "stopped")]


def test_a_note_and_another_name_are_kept_and_said(panel, noticed):
    made("one")
    assert panel.save_note("one", "good") is None
    name, *_, field, asking = panel.rename_run("one", " two ")[:7]
    assert (name, field, asking["visible"]) == ("two", "two", False)
    assert history.read_note("two") == "good"
    assert noticed == [
        "The note is kept in the run's folder.", "Comparisons and merged models made before keep the old name.",
    ]  # fmt: skip


def test_deleting_asks_once_more_and_says_what_it_costs(panel):
    made("one")
    made("two", from_adapter="one")
    asking, question = panel.ask("one")
    assert asking["visible"]
    assert question == (
        "**Delete one?** Its adapter, its curves and its checkpoints are gone then. Started from it: two. Adapters "
        "stay, but no such run can be resumed or repeated."
    )
    assert {run.name for run in runs.list_runs()} == {"one", "two"}
    assert panel.delete_run("one")["visible"] is False
    assert [run.name for run in runs.list_runs()] == ["two"]


@pytest.mark.parametrize("name", ["gone", "../two", "", "/etc", "a\x00", "x" * 1_000_000, "goes-on", None, 7, ["two"]])
def test_what_is_gone_or_goes_on_or_is_no_name_is_a_sentence_and_changes_nothing(panel, noticed, name):
    made("two")
    made("goes-on", RunStatus.RUNNING)
    for act in (panel.ask, panel.delete_run, lambda name: panel.rename_run(name, "three")):
        act(name)
    assert len(noticed) == 3
    assert not any("unexpected" in sentence for sentence in noticed)
    assert {run.name for run in runs.list_runs()} == {"two", "goes-on"}


def test_a_run_deleted_elsewhere_while_it_is_looked_at_leaves_the_page_in_order(page, noticed):
    made("one")
    made("two")
    history.delete("two")
    assert not is_skip(page.view(None, "two"))
    assert noticed == []


# Several runs


def test_runs_are_laid_over_each_other_with_only_what_differs(panel):
    made("one", margins=(0.0, 1.0), settings={"beta": 0.1, "seed": 1})
    made("two", margins=(0.0, 4.0, 9.0), settings={"beta": 0.3, "seed": 1})
    plot, legend, differences = panel.lay_over(["two", "one"], "Reward margin")
    # Every letter is there each time: a plot shows no line whose letter it was not first drawn with.
    assert set(plot["value"]["line"]) == set("ABCDE")
    drawn = plot["value"].dropna()
    assert (plot["visible"], sorted(set(drawn["line"]))) == (True, ["A", "B"])
    assert list(drawn[drawn["line"] == "A"]["step"]) == [1, 2, 3]
    assert legend == "**A** two · **B** one"
    assert differences["headers"] == ["Setting", "A: two", "B: one"]
    assert differences["value"] == [["Beta", "0.3", "0.1"]]


def test_a_curve_that_none_has_logged_is_said_and_the_differences_stand(panel):
    made("one", settings={"beta": 0.1})
    made("two", settings={"beta": 0.2})
    plot, words, differences = panel.lay_over(["one", "two"], "Held-out accuracy")
    assert (plot["visible"], words, differences["visible"]) == (False, NOT_LOGGED, True)
    plot, words, differences = panel.lay_over(["one"], "Loss")
    assert (plot["visible"], words, differences["visible"]) == (False, CHOOSE, False)


@pytest.mark.parametrize(("names", "curve"), [
    (["one", "gone"], "Loss"), (["one", "damaged"], "Loss"), (["one"] * 6, "Loss"), (["one", "one"], "Accuracy"),
    (["../up", "one"], "Loss"), ([None, 7], "Loss"),
])  # fmt: skip
def test_what_cannot_be_laid_over_is_a_sentence(panel, noticed, names, curve):
    made("one")
    made("damaged")
    (paths.run_dir("damaged") / "run.yaml").write_bytes(b"a: [")
    assert is_skip(panel.lay_over(names, curve))
    assert len(noticed) == 1
    assert "unexpected" not in noticed[0]


# Along


def test_merging_says_how_far_it_is_and_how_it_was_checked(panel, client):
    told = []
    client.merge = lambda name, tell: (tell(1, 4), FakeClient.merge(client, name))[1]
    words = panel.takeaway.merge("one", progress=lambda share, desc: told.append((share, desc)))
    assert told == [((1, 4), "Merging")]
    assert client.asked == [("merge", "one")]
    assert words.startswith("**Merged** into ")
    assert words.endswith(" It answers alike.")


def test_pushing_asks_once_more_and_is_private_unless_that_was_ticked(panel, monkeypatch):
    monkeypatch.setenv("HUGGINGFACE_TOKEN", "hf_0123456789abcdef")
    pushed = []
    monkeypatch.setattr(push, "push", lambda *asked: pushed.append(asked) or "https://hub/ann/mine")
    asking, question, _ = panel.takeaway.ask("one", "ann/mine", ADAPTER, False)
    assert (asking["visible"], pushed) == (True, [])
    assert question == "**Push the adapter of one to ann/mine?** Only you will see it."
    assert panel.takeaway.push("one", "ann/mine", ADAPTER, False) == "**Pushed** to https://hub/ann/mine"
    for is_public in ("false", "true", 1, None):
        panel.takeaway.push("one", "ann/mine", MERGED, is_public)
    assert pushed == [("one", "ann/mine", False, False), *[("one", "ann/mine", True, False)] * 4]
    (paths.merged_dir() / "one").mkdir(parents=True)
    (paths.merged_dir() / "one" / "config.json").write_text("{}")
    assert panel.takeaway.ask("one", "ann/mine", MERGED, True)[1] == (
        "**Push the merged model of one to ann/mine?** **Everybody will see it.**"
    )


def test_what_cannot_be_pushed_is_said_before_the_question_and_a_failure_where_the_link_was_awaited(
    panel, noticed, monkeypatch
):
    assert is_skip(panel.takeaway.ask("one", "ann/mine", ADAPTER, False))
    monkeypatch.setenv("HUGGINGFACE_TOKEN", "hf_0123456789abcdef")
    for to, what in (("mine", ADAPTER), (None, ADAPTER), ("ann/mine", MERGED)):
        assert is_skip(panel.takeaway.ask("one", to, what, False))
    assert ["There is no token" in noticed[0], *("is no name on the Hub" in words for words in noticed[1:3])] == [
        True
    ] * 3
    assert "is not merged yet" in noticed[3]

    def refuse(*_: object) -> str:
        raise PlaygroundError("The Hub <b>refuses</b> it.")

    monkeypatch.setattr(push, "push", refuse)
    assert panel.takeaway.push("one", "ann/mine", ADAPTER, False) == "The Hub &#60;b&#62;refuses&#60;/b&#62; it."


def test_the_card_of_a_finished_run_stands_there_to_be_read(panel):
    runs.write(made("one", margins=(1.0, 2.0)), result={"pairs": 30, "held_out": 0})
    give_adapter("one")
    card = picked(panel, "one")[-1]
    assert "30 pairs of `my pairs.jsonl`" in card
    assert Path("/bases").as_posix() not in card
