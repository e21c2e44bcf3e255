"""From a run on the page to the next one: its buttons fill in the form and lead to it, and start nothing."""

import pytest

from core import preferences, runs
from core.coach import Card
from core.paths import run_dir
from core.runs import RunStatus
from core.settings import Method
from core.ui import run_files
from core.ui.page import Page
from tests.ui.fake_client import STARTER

CARD = Card("spike", "It jumps", "14 at step 12.", "One batch.", "Lower the rate.", {"learning_rate": 1e-4})


@pytest.fixture
def run() -> runs.Run:
    run = runs.create(Method.DPO, "dpo-1126-1210", base=STARTER.name, dataset="starter", steps=60)
    preferences.write_snapshot(preferences.read("starter"), run_dir(run.name) / "data.jsonl")
    runs.write_config(run.name, {"method": "dpo", "model": STARTER.name, "data": "data.jsonl", "from_adapter": "",
                                 "settings": {"learning_rate": 5e-4, "beta": 0.3}, "pinned": ["Why?"]})  # fmt: skip
    adapter = run_dir(run.name) / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    return runs.write(run, status=RunStatus.FINISHED)


def filled(page: Page, button: object, advised: list[str]) -> dict[str, object]:
    """What the form would hold after a click on the button."""
    asked = next(asked for known, asked in page.train.run.leads if known is button)
    inner, *updates = page.train.lead(asked)("dpo-1126-1210", advised)
    assert inner.selected == "configure"
    names = {id(field): name for name, field in page.train.configure.fields.items()}
    held = zip(page.train.configure.filled_outputs, updates, strict=True)
    return {names[id(c)]: u.get("value") if isinstance(u, dict) else u for c, u in held if id(c) in names}


def test_a_cards_button_fills_in_the_run_with_its_change(page, run, monkeypatch):
    monkeypatch.setattr(run_files, "advise", lambda evidence: [CARD])
    form = filled(page, page.train.run.coach.buttons[0], ["spike"])
    assert (form["learning_rate"], form["beta"], form["pinned"]) == ("1e-4", 0.3, "Why?")
    assert (form["source"], form["earlier_run"], form["from_adapter"]) == ("Earlier run", run.name, "")
    assert page.client.asked == []


def test_training_again_from_here_starts_from_the_runs_adapter(page, run):
    form = filled(page, page.train.run.again, [])
    assert (form["from_adapter"], form["learning_rate"]) == (run.name, "5e-4")
