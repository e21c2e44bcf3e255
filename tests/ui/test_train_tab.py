"""The Train tab against a client that remembers: what it asks, when, and what it shows of what stands on disk."""

import asyncio

import gradio as gr
import pytest

from core import paths, runs
from core.client import EnginePhase, EngineState
from core.errors import BusyError, DataError
from core.runs import RunStatus
from core.ui import notices
from core.ui.page import Page
from core.ui.parts import BUSY_S, IDLE_S
from core.ui.run_panel import NO_RUN


@pytest.fixture
def page(page: Page) -> Page:
    """One that knows the bases."""
    page.train.bases.known()
    page.train.bases.wait()
    return page


@pytest.fixture
def form(page: Page) -> dict[str, object]:
    """What the fields hold on a fresh page."""
    return {name: field.value for name, field in page.train.configure.fields.items()}


def shown(page: Page, chosen: str = "") -> dict[str, object]:
    """What a page that has seen nothing yet is sent, by the component's id."""
    return {part.elem_id: update for part, update in page.view(None, chosen).items()}


def pace(page: Page) -> float:
    """Seconds between two looks of a page that has seen nothing yet."""
    return page.view(None, "")[page.timer]["value"]


def planned(page: Page, form: dict[str, object]) -> tuple[str, dict[str, object]]:
    """What the card says, and what becomes of the Start button."""
    panel = page.train.configure
    words, _, _, _, start, _ = panel.plan(panel.seated.value, **form)
    return words, start


def press(page: Page, elem_id: str, *sent: object) -> None:
    """A click on the button, as far as its own handler goes."""
    button = next(block for block in page.demo.blocks.values() if block.elem_id == elem_id)
    next(fn for fn in page.demo.fns.values() if (button._id, "click") in fn.targets).fn(*sent)


def is_skip(update: object) -> bool:
    return update == gr.skip()


def train(page: Page, form: dict[str, object], **changes: object) -> runs.Run:
    """A run that has been started from the form and stands on disk with `changes`."""
    page.train.start(**form)
    return runs.write(runs.list_runs()[0], **{"status": RunStatus.RUNNING, "phase": "training"} | changes)


def test_a_fresh_page_can_be_started_with_one_click(page, client, form):
    words, button = planned(page, form)
    assert "**120 pairs** from the starter data" in words
    assert (button["value"], button["interactive"]) == ("Start training", True)
    inner, chosen = page.train.start(**form)
    assert (inner.selected, chosen) == ("run", "")
    verb, request = client.asked[-1]
    assert (verb, request.method, request.dataset) == ("start_run", "dpo", "starter")
    assert request.settings["loss"] == "sigmoid+sft"


def test_the_start_button_waits_for_the_run_that_goes_on(page, form):
    run = train(page, form)
    _, button = planned(page, form)
    assert (button["value"], button["interactive"]) == (f"{run.name} is going on", False)


def test_a_refused_start_changes_nothing_and_says_why(page, client, form, noticed):
    client.refusal = BusyError("A run is going on since 14:05.")
    assert is_skip(page.train.start(**form))
    assert noticed == ["<strong>Something else is going on</strong><br>A run is going on since 14:05."]
    assert runs.list_runs() == []


def test_a_surprise_shows_an_id_and_neither_path_nor_key(page, client, form, noticed, monkeypatch, caplog):
    monkeypatch.setenv("GEMINI_API_KEY", "canary-key-0001")
    client.refusal = RuntimeError(f"canary-key-0001 in {paths.home()}")
    assert is_skip(page.train.start(**form))
    assert "canary" not in noticed[0] + caplog.text
    assert str(paths.home()) not in noticed[0]
    number = noticed[0].split("under ")[1].rstrip(".")
    assert number in caplog.text


def test_stop_iteration_in_a_streaming_handler_is_said(noticed):
    @notices.shows_errors
    def stream():
        yield "first"
        raise StopIteration

    assert [is_skip(update) for update in stream()] == [False, True]
    assert noticed[0].startswith("<strong>Something unexpected happened</strong>")


def test_a_page_without_runs_says_what_to_do(page):
    assert (
        shown(page)["run-title"]
        == NO_RUN
        == (
            "**No run yet.** Choose data under Configure and press Start training: on the starter data it takes a few "
            "minutes."
        )
    )


def test_a_reload_or_a_second_tab_finds_the_run_as_it_stands(page, client, form):
    run = train(page, form, step=34, eta_s=120.0)
    runs.append_metrics(run.name, {"step": 34, "loss": 1.5, "rewards/margins": 0.4})
    elsewhere = Page(client)
    elsewhere.build()
    for opened in (page, elsewhere):
        seen = shown(opened)
        assert seen["run-line"] == "**Running** · step 34 of 60 · about 2 min left"
        assert (seen["pause"]["visible"], seen["stop"]["visible"], seen["resume"]["visible"]) == (True, True, False)


def test_only_what_changed_is_sent_again(page, form):
    run = train(page, form, step=1)
    seen = page.view(None, "")[page.seen]
    assert page.view(seen, "") == {page.seen: seen}
    runs.write(run, step=2)
    sent = {part.elem_id for part in page.view(seen, "") if part is not page.seen}
    assert sent == {"chip", "announced", "run-line", "run-bar"}


def test_the_page_looks_often_only_while_something_moves(page, client, form):
    assert pace(page) == IDLE_S
    train(page, form)
    assert pace(page) == BUSY_S


def test_a_starting_engine_is_looked_at_often(page, client):
    client.now = EngineState(phase=EnginePhase.LOADING)
    assert pace(page) == BUSY_S


def test_a_run_whose_process_is_gone_is_shown_as_interrupted_with_resume(page, client, form):
    run = train(page, form, step=34)
    status = paths.run_dir(run.name) / "status.json"
    paths.write_json(status, paths.read_json(status) | {"pid": 2**22 + 1})
    seen = shown(page)
    assert seen["outcome-words"].startswith("**It was interrupted.**")
    assert (seen["resume"]["visible"], seen["stop"]["visible"]) == (True, False)
    press(page, "resume", run.name)
    assert client.asked[-1] == ("resume_run", run.name)


def test_a_finished_run_leads_to_compare_and_chat(page, form):
    run = train(page, form, status=RunStatus.FINISHED, step=60)
    assert shown(page)["compare-now"]["visible"] is False
    paths.write_json(runs.adapter_dir(run.name) / "adapter_config.json", {})
    assert (shown(page)["compare-now"]["visible"], shown(page)["chat-now"]["visible"]) == (True, True)


def test_stop_says_at_once_that_it_was_heard(page, client, noticed):
    page.train.run.stop_run()
    assert client.asked == [("stop_run",)]
    assert noticed == ["It stops after this step, and what is trained is kept."]


def test_an_older_run_can_be_looked_at_while_another_goes_on(page, form):
    older = train(page, form, status=RunStatus.STOPPED, step=10)
    train(page, form, step=34)
    assert "step 34" in shown(page)["run-line"]
    assert shown(page, older.name)["run-line"] == "**Stopped** · 10 of 60 steps"


def test_only_what_was_clicked_for_shows_progress(page):
    """What ever was a target of progress is searched for in the whole page at each event, a run's looks included."""
    targets = set[str]()
    for event in page.demo.fns.values():
        shown_on = event.outputs if event.show_progress_on is None else event.show_progress_on
        targets |= {component.elem_id for component in shown_on}
    assert targets == {"data-found", "merged"}


def test_no_event_of_the_page_is_a_public_endpoint(page):
    named = [fn.api_name for fn in page.demo.fns.values() if fn.api_visibility != "private"]
    assert named == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, "abc", [1], 1e309])
def test_a_number_out_of_range_starts_nothing(page, client, form, noticed, value):
    assert is_skip(page.train.start(**form | {"limit": value}))
    assert client.asked == []
    assert "Rows must be a whole number" in noticed[0]


@pytest.mark.parametrize("change", [
    {"limit": float("nan")}, {"limit": "abc"}, {"limit": [1]}, {"model": ["a"]}, {"model": {"a": 1}},
    {"source": ["File"]}, {"method": {}}, {"method": "ppo"}, {"epochs": "many"}, {"epochs": [1]}, {"epochs": 1e309},
    {"file": "/etc/passwd"}, {"learning_rate": [1]},
])  # fmt: skip
def test_what_no_field_can_hold_starts_nothing_and_is_said(page, client, form, noticed, change):
    start = next(fn for fn in page.demo.fns.values() if fn.fn == page.train.start)
    sent = [(form | change)[name] for name in page.train.configure.fields]
    try:
        asyncio.run(page.demo.process_api(start, sent))
    except gr.Error as refusal:
        noticed += [str(refusal)] if not refusal.print_exception else []
    assert not any(verb == "start_run" for verb, *_ in client.asked)
    assert len(noticed) == 1
    assert "unexpected" not in noticed[0]


def test_a_page_that_is_opened_during_a_run_shows_it(page, form):
    assert is_skip(page.train.land())
    train(page, form)
    assert page.train.land().selected == "run"


def test_an_upload_goes_by_its_own_name(page, client, form, noticed, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    upload = tmp_path / "0a1b2c" / "my pairs.jsonl"
    upload.parent.mkdir()
    upload.touch()
    client.refusal = DataError(f"{upload} is UTF-16 text.")
    words, _ = planned(page, form | {"source": "File", "file": str(upload)})
    assert "my pairs.jsonl is UTF-16 text." in words
    page.train.start(**form | {"source": "File", "file": str(upload)})
    assert "my pairs.jsonl is UTF-16 text." in noticed[0]
    assert str(tmp_path) not in words + noticed[0]
    client.refusal = None
    train(page, form | {"source": "File", "file": str(upload)})
    assert " on my pairs.jsonl · base " in shown(page)["run-title"]
    assert str(tmp_path) not in str(shown(page)["history"])
