"""The data's part of the form and the lens, against a client that remembers: what is asked, when, and what is shown."""

import json
from dataclasses import replace

import gradio as gr
import pytest
import yaml
from gradio.routes import ORJSONResponse
from gradio.utils import NamedString

from core import paths, runs
from core.client import EnginePhase, EngineState, RunRequest
from core.errors import DataError, PlaygroundError, RequestError
from core.file_rows import LeftOut, Reason
from core.messages import ask
from core.settings import Method
from core.ui.data_form import DataForm, DataSource, half_each, snapshot_of
from core.ui.data_panel import DataPanel
from core.wire import DataView, PairView, SpanKind
from tests.ui.fake_client import DATA, FakeClient

VOTES = "model_comparison_20261123_140500_votes.jsonl"
PAIR = PairView(1, ask("Hi?"), "Yes.", "No.", (("Hi?", SpanKind.PROMPT), ("Yes.", SpanKind.TRAINED)), ())
UNMAPPED = DataView(found="?", columns=("ask", "good", "bad"), is_unmapped=True)


class LookingClient(FakeClient):
    """Shows the pair of a row, and nothing of a row that is left out."""

    def look_at_data(self, request: RunRequest, row: int | None = None) -> DataView:
        view = super().look_at_data(request, row)
        row = row or (view.train_rows or (0,))[0]
        is_pair = row in view.train_rows + view.held_out_rows
        return replace(view, pair=replace(PAIR, row=row) if is_pair else None, raw="" if is_pair else "raw")


@pytest.fixture
def client() -> LookingClient:
    return LookingClient()


@pytest.fixture
def panel(client: LookingClient) -> DataPanel:
    panel = DataPanel(client)
    with gr.Blocks():
        panel.build()
        panel.build_lens()
        panel.wire()
    return panel


@pytest.fixture
def form(panel: DataPanel) -> dict[str, object]:
    return {name: field.value for name, field in panel.fields.items()}


def write_votes(num_pairs: int = 9, name: str = VOTES) -> str:
    path = paths.logs_dir() / "pairs" / name
    paths.write_text(path, "".join(json.dumps({"prompt": str(n)}) + "\n" for n in range(num_pairs)))
    return str(path)


def write_run(name: str = "dpo-1122-1405", dataset: str = "starter") -> str:
    runs.create(Method.DPO, name, dataset=dataset)
    paths.write_text(snapshot_of(name), "{}\n")
    return str(snapshot_of(name))


def is_open(panel: DataPanel, updates: dict) -> bool:
    return updates.get(panel.lens.panel, {}).get("visible", False)


# --- the form ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [
    "starter", "Anthropic/hh-rlhf", "Anthropic/hh-rlhf:helpful-base", half_each(1001), "owner/name",
    "owner/name:folder@20+other/name", "owner/name?config=main&split=test_prefs", "owner/name?split=test",
])  # fmt: skip
def test_a_request_shown_in_the_form_asks_for_the_same_again(dataset):
    rows = 1001 if "@5" in dataset else 500
    asked = RunRequest(dataset=dataset, limit=rows, held_out=20, split_seed=3, columns={"prompt": "ask"})
    again = DataForm.of(DataForm.showing(asked)).request_part()
    assert again == {"dataset": dataset, "limit": rows, "held_out": 20, "split_seed": 3, "columns": {"prompt": "ask"}}


def test_votes_and_the_data_of_a_run_are_shown_by_their_names_and_asked_for_by_their_files():
    for path, words in ((write_votes(), "your votes"), (write_run(), "the data of dpo-1122-1405")):
        form = DataForm.of(DataForm.showing(RunRequest(dataset=path)))
        assert form.words() == words
        assert form.request_part()["dataset"] == path


def test_votes_that_are_there_want_to_be_chosen():
    write_votes()
    with pytest.raises(RequestError, match="^Choose a file of votes first$"):
        DataForm(source="Votes").request_part()


def test_an_upload_has_to_be_chosen_again():
    assert DataForm.showing(RunRequest(dataset="/tmp/x/pairs.jsonl"))["source"] == DataSource.FILE


@pytest.mark.parametrize(("form", "sentence"), [
    ({"source": "File"}, "Choose a file first"),
    ({"source": "File", "file": "/nowhere/x.jsonl"}, "That upload is gone: choose the file again"),
    ({"source": "Hub id"}, "Type a Hub id first"),
    ({"source": "Hub id", "hub_id": "a/b+c/d", "hub_split": "test"}, "Configuration and split go with one Hub id"),
    ({"source": "Votes"}, "There are no votes to train on yet"),
    ({"source": "Votes", "votes": "gone.jsonl"}, "Those votes are gone: choose others"),
    ({"source": "Earlier run"}, "Choose an earlier run first"),
    ({"source": "Earlier run", "earlier_run": "gone"}, "That run's data is gone: choose another"),
    ({"source": "elsewhere"}, "Choose where the data comes from"),
    ({"source": ["File"]}, "Choose where the data comes from"),
    ({"source": "HH-RLHF", "part": "all"}, "Choose a part of HH-RLHF"),
])  # fmt: skip
def test_what_is_missing_fits_on_a_button(form, sentence):
    with pytest.raises(RequestError) as refused:
        DataForm(**form).request_part()
    assert str(refused.value) == sentence
    assert len(sentence) <= 44


@pytest.mark.parametrize("form", [
    {"source": "Hub id", "hub_id": "/etc/passwd"},
    {"source": "Hub id", "hub_id": "../secrets"},
    {"source": "Hub id", "hub_id": "tests/ui"},
    {"source": "Hub id", "hub_id": "owner/name+assets/prompts.json@9"},
    {"source": "Hub id", "hub_id": "owner/name", "hub_config": "../../etc"},
    {"source": "Votes", "votes": "../../../etc/passwd"},
    {"source": "Votes", "votes": "stray.jsonl"},
    {"source": "Earlier run", "earlier_run": "../logs/pairs"},
    {"source": "Earlier run", "earlier_run": "/etc"},
])  # fmt: skip
def test_nothing_that_is_typed_reads_another_file_of_this_machine(form, own_home, monkeypatch):
    monkeypatch.chdir(paths.PROJECT_ROOT)
    write_votes(name="stray.jsonl")
    with pytest.raises((DataError, RequestError)):
        DataForm(**form).request_part()


def test_the_page_that_holds_it_can_be_sent_to_a_browser(panel):
    assert b"trained on" in ORJSONResponse(panel.lens.panel.parent.get_config_file()).body


# --- the fields -------------------------------------------------------------------------------------------


def test_only_the_fields_of_the_chosen_source_are_shown(panel):
    for source in DataSource:
        updates = panel.show_source(source)
        shown = {name for name, field in panel.by_source.items() if updates[field]["visible"]}
        assert shown == {source} - {"Starter", "Votes", "Earlier run"}
        assert updates[panel.sizes]["visible"] == (source != "Earlier run")


def test_an_empty_choice_says_what_to_do_next(panel):
    assert panel.show_source("Votes")[panel.note] == (
        "**No votes yet.** Vote under Compare, and export the votes below its result."
    )
    assert panel.show_source("Earlier run")[panel.note] == (
        "**No run yet.** Train once on other data, and it can be taken again from here."
    )


def test_votes_and_runs_are_those_of_this_moment(panel):
    panel.show_source("Votes")
    write_votes(1)
    write_votes(9, "model_comparison_20261124_090000_judge_pairs.jsonl")
    assert panel.show_source("Votes")[panel.fields["votes"]]["choices"] == [
        ("2026-11-24 09:00:00 · the judge's verdicts · 9 pairs",
         "model_comparison_20261124_090000_judge_pairs.jsonl"),
        ("2026-11-23 14:05:00 · your votes · 1 pair", VOTES),
    ]  # fmt: skip
    write_run()
    runs.create(Method.DPO, "without-data", dataset="starter")
    assert panel.show_source("Earlier run")[panel.fields["earlier_run"]]["choices"] == [
        ("dpo-1122-1405 · the starter data", "dpo-1122-1405")
    ]


# --- looking ----------------------------------------------------------------------------------------------


def test_what_a_local_file_holds_is_said_as_soon_as_it_is_chosen(panel, client, form, own_home):
    file = own_home / "pairs.jsonl"
    file.touch()
    updates = panel.follow(None, **form | {"source": "File", "file": str(file)})
    assert updates[panel.found] == DATA.found
    assert not is_open(panel, updates)
    assert [verb for verb, *_ in client.asked] == ["look_at_data"]


@pytest.mark.parametrize("change", [{"source": "Hub id", "hub_id": "owner/name"}, {"source": "HH-RLHF"}])
def test_data_of_the_hub_is_only_looked_at_when_the_button_is_pressed(panel, client, form, change):
    updates = panel.follow(panel.open(**form)[panel.lens.looked], **form | change)
    assert (updates[panel.found], updates[panel.lens.looked], is_open(panel, updates)) == ("", None, False)
    assert len(client.asked) == 1
    assert is_open(panel, panel.open(**form | change))
    assert len(client.asked) == 2


def test_an_open_lens_follows_the_form_and_a_closed_one_costs_nothing(panel, client, form):
    assert panel.refresh(None, **form | {"limit": 20}) == gr.skip()
    assert client.asked == []
    looked = panel.open(**form)[panel.lens.looked]
    updates = panel.refresh(looked, **form | {"limit": 20})
    assert client.asked[-1][1].limit == updates[panel.lens.looked].request.limit == 20
    assert is_open(panel, updates)


def test_a_form_that_asks_for_nothing_closes_the_lens_without_a_notice(panel, form, noticed):
    updates = panel.follow(panel.open(**form)[panel.lens.looked], **form | {"limit": "many"})
    assert (is_open(panel, updates), noticed) == (False, [])


def test_nothing_is_looked_at_while_the_model_is_loaded_and_the_button_says_why(panel, client, form, noticed):
    client.now = EngineState(phase=EnginePhase.LOADING)
    panel.follow(None, **form)
    assert client.asked == []
    client.refusal = PlaygroundError("Loading the base.")
    panel.open(**form)
    assert "Loading the base." in noticed[0]


def test_max_length_decides_where_the_lens_cuts(panel, client, form):
    panel.open(**form | {"max_length": 64})
    assert client.asked[-1][1].settings == {"max_length": 64}


def test_columns_that_do_not_show_are_asked_for_and_go_with_the_request(panel, client, form):
    client.data = UNMAPPED
    updates = panel.open(**form)
    columns = {name: updates[panel.fields[f"column_{name}"]]["choices"] for name in ("prompt", "chosen", "rejected")}
    assert columns["chosen"] == [("ask", "ask"), ("good", "good"), ("bad", "bad")]
    assert (columns["prompt"][0], columns["rejected"][0]) == (("in the replies", ""), ("none", ""))
    assert updates[panel.columns]["visible"]
    assert not is_open(panel, updates)
    client.data = DATA
    chosen = {"column_prompt": "ask", "column_chosen": "good", "column_rejected": ""}
    assert is_open(panel, panel.open(**form | chosen))
    assert client.asked[-1][1].columns == {"prompt": "ask", "chosen": "good"}


def test_other_data_forgets_the_columns(panel):
    for updates in (panel.forget_columns(), panel.show_source("File")):
        assert all(updates[panel.fields[f"column_{name}"]]["value"] is None for name in ("prompt", "chosen"))
        assert not updates[panel.columns]["visible"]


# --- in the lens ------------------------------------------------------------------------------------------


def test_the_lens_opens_on_the_first_pair(panel, form):
    updates = panel.open(**form)
    lens = panel.lens
    assert updates[lens.summary].startswith("160 pairs with the columns prompt, chosen and rejected.")
    assert (updates[lens.number], updates[lens.title]) == (1, "**Row 1** · to train on")
    assert updates[lens.seen[0]] == [("Hi?", None), ("Yes.", "trained on")]
    assert updates[lens.sha] == "0" * 64
    assert not updates[lens.left_out]["visible"]
    assert all(updates[plot]["value"]["pairs"].sum() == 160 for plot in lens.plots)


def test_leafing_stays_among_the_rows_that_were_chosen(panel, client, form):
    looked = panel.open(**form)[panel.lens.looked]
    number, lens = panel.lens.number, panel.lens
    assert lens.go_on(looked, "held out", 160)[number] == 121
    assert lens.go_back(looked, "every pair", 1)[number] == 160
    assert lens.go_to_first(looked, "held out")[number] == 121
    assert client.asked[-1][2] == 121


def test_a_row_that_is_left_out_is_found_by_its_number_and_from_the_table(panel, client, form):
    client.data = replace(DATA, train_rows=tuple(range(1, 120)), left_out=(LeftOut(120, Reason.NOT_TEXT, "<b>"),))
    lens = panel.lens
    updates = panel.open(**form)
    assert updates[lens.table] == [["120", "something else where text belongs", "<b>"]]
    picked = gr.SelectData(None, {"index": [0, 0], "value": "120", "row_value": ["120", "", ""]})
    for shown in (lens.show_row(updates[lens.looked], 120), lens.show_left_out(updates[lens.looked], picked)):
        assert shown[lens.title] == "**Row 120** · left out: something else where text belongs (&#60;b&#62;)"
        assert (shown[lens.raw]["value"], shown[lens.raw]["visible"], shown[lens.pair]["visible"]) == (
            "raw",
            True,
            False,
        )


def test_a_row_that_cannot_be_shown_is_said_and_changes_nothing(panel, client, form, noticed):
    assert panel.lens.show_row(None, 3) == gr.skip()
    assert "There is no row to show. Press &#39;Look at the data&#39;, or type a row&#39;s number." in noticed[0]
    looked = panel.open(**form)[panel.lens.looked]
    client.refusal = DataError("There is no row 999: rows 1 to 160 were read.")
    assert panel.lens.show_row(looked, 999) == gr.skip()
    assert "There is no row 999: rows 1 to 160 were read." in noticed[1]


def test_an_upload_is_a_plain_path_that_a_run_yaml_can_hold(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("{}")
    part = DataForm.of({"source": "File", "file": NamedString(path)}).request_part()
    assert yaml.safe_load(yaml.safe_dump(part["dataset"])) == str(path)
