"""Configure against a client that remembers: how the form is set, filled in, read and kept, and what its card says."""

from dataclasses import replace

import gradio as gr
import pytest

from core import paths, runs
from core.client import EnginePhase, EngineState
from core.errors import DataError, ModelError, OutOfMemory, RequestError
from core.presets import Preset, Seat
from core.recipes import RECIPES
from core.runs import RunStatus
from core.settings import MAX_PINNED, PINNED_PROMPTS, Method, Size
from core.ui.bases import Bases
from core.ui.configure_panel import ConfigurePanel
from core.ui.data_form import PARTS, DataForm, DataSource
from core.ui.train_form import TrainForm
from core.wire import RunRequest
from tests.ui.fake_client import MISTRAL, PLAN, READY

STARTER = Seat.of(Method.DPO, Size.SMALL)


@pytest.fixture
def blocks() -> gr.Blocks:
    return gr.Blocks()


@pytest.fixture
def panel(client, blocks, monkeypatch, tmp_path) -> ConfigurePanel:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    bases = Bases(client)
    bases.known()
    bases.wait()
    panel = ConfigurePanel(client, bases)
    with blocks:
        panel.build()
        panel.wire(gr.State(""))
    return panel


@pytest.fixture
def form(panel) -> dict[str, object]:
    """What the fields hold on a fresh page, once the page knows its base."""
    return {name: field.value for name, field in panel.fields.items()} | {"model": READY.base}


def plan(panel, form, seat=STARTER) -> dict[str, object]:
    return dict(zip(("words", "memory", "apply", "fix", "start", "save"), panel.plan(seat, **form), strict=True))


def plain(update: object) -> object:
    return update.get("value") if isinstance(update, dict) else update


def filled(panel, form, updates) -> dict[str, object]:
    """The form after `filled_outputs` got their updates; what is skipped or hidden keeps its value."""
    sent = dict(zip(panel.fields, updates[4:], strict=True))
    return {name: plain(sent[name]) if not isinstance(sent[name], dict) or "value" in sent[name] else form[name]
            for name in form}  # fmt: skip


def reseated(panel, form, seat=STARTER, preset=Preset.STANDARD) -> tuple[Seat, str, dict[str, object]]:
    """The new seat, what is said of it, and the updates by name."""
    seat, _, words, *updates = panel.reseat(seat, preset.value, **form)
    return seat, words, dict(zip(("limit", *panel.settings), updates, strict=True))


def is_skip(update: object) -> bool:
    return update == gr.skip()


def adapter(name: str, base: str = READY.base) -> str:
    """A finished run with an adapter."""
    run = runs.create(Method.SFT, name, base=base, dataset="starter")
    paths.write_json(runs.adapter_dir(name) / "adapter_config.json", {})
    return runs.write(run, status=RunStatus.FINISHED).name


# --- the card -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "label"), [
    (EngineState(phase=EnginePhase.LOADING, message="Loading"), "Waiting for the model"),
    (EngineState(phase=EnginePhase.DEAD, message="Killed"), "No model is loaded"),
])  # fmt: skip
def test_nothing_is_asked_of_an_engine_that_is_not_ready(panel, client, form, state, label):
    client.now = state
    start = plan(panel, form)["start"]
    assert (start["value"], start["interactive"]) == (label, False)
    assert client.asked == []


@pytest.mark.parametrize(("refusal", "label"), [
    (DataError("Only 3 usable rows."), "Only 3 usable rows"),
    (DataError("Only 3 usable rows are left of 12 in this file, and 8 are needed."), "This data cannot be used"),
    (ModelError("There is no base named 'x' here, and the Hub was not asked."), "This model cannot be used"),
    (OutOfMemory("Training would need 30 GB, and this machine has 8 GB."), "Out of memory"),
])  # fmt: skip
def test_a_disabled_start_button_is_labelled_with_the_reason(panel, client, form, refusal, label):
    client.refusal = refusal
    said = plan(panel, form)
    assert (said["start"]["value"], said["start"]["interactive"]) == (label, False)
    assert str(refusal).replace("'", "&#39;") in said["words"]


@pytest.mark.parametrize(("change", "label"), [
    ({"source": "File"}, "Choose a file first"),
    ({"source": "Hub id"}, "Type a Hub id first"),
    ({"pinned": "\n".join("abcdefgh"[: MAX_PINNED + 1])}, "A setting is out of range"),
])  # fmt: skip
def test_an_unfinished_form_says_what_is_missing(panel, client, form, change, label):
    start = plan(panel, form | change)["start"]
    assert (start["value"], start["interactive"]) == (label, False)
    assert client.asked == []


def test_data_of_the_hub_is_said_to_be_fetched(panel, form):
    words = plan(panel, form | {"source": "Hub id", "hub_id": "owner/pairs"})["words"]
    assert "The data is fetched from the Hub when it starts" in words


def test_what_will_not_fit_comes_with_a_button_that_makes_it_fit(panel, client, form):
    client.plan = replace(PLAN, fit="won't fit", fix={"batch_size": 1, "gradient_checkpointing": True},
                          fix_words="With a batch size of 1 and gradient checkpointing it fits.")  # fmt: skip
    said = plan(panel, form)
    assert said["start"]["value"] == "Start, though it won't fit"
    assert "**It won't fit here.** With a batch size of 1 and gradient checkpointing it fits." in said["words"]
    assert said["apply"] == gr.update(value="Apply: batch size 1, gradient checkpointing on", visible=True)
    applied = dict(zip(panel.settings, panel.apply(said["fix"]), strict=True))
    assert (applied["batch_size"], applied["gradient_checkpointing"]) == (1, True)
    assert all(is_skip(update) for name, update in applied.items() if name not in said["fix"])


def test_what_fits_has_no_such_button(panel, form):
    assert plan(panel, form)["apply"]["visible"] is False


def test_the_card_says_what_was_turned(panel, form):
    assert plan(panel, form)["words"].endswith("Nothing is downloaded.")
    words = plan(panel, form | {"learning_rate": "3e-4", "lora_rank": 64, "limit": 50})["words"]
    assert words.endswith(
        "Changed: rows 50 instead of 1000, learning rate 3e-4 instead of 5e-4, LoRA rank 64 instead of 16."
    )


def test_two_runs_have_a_line_each(panel, client, form):
    client.plan = replace(PLAN, steps=90)
    seat, _, updates = reseated(panel, form | {"method": "sft+dpo"})
    settings = {name: plain(update) for name, update in updates.items() if plain(update) is not None}
    assert (
        "1. **SFT**: 60 steps, 2 passes at 2e-4.\n"
        "2. **DPO** from the SFT adapter, and held to it: 30 steps, 1 pass at 2e-4, beta 0.1."
    ) in plan(panel, form | {"method": "sft+dpo"} | settings, seat)["words"]


# --- method, base, loss, preset -------------------------------------------------------------------------


def test_a_method_sets_what_depends_on_it_says_why_and_hides_what_it_does_not_use(panel, form):
    seat, words, updates = reseated(panel, form | {"method": "sft"})
    assert words == (
        "**Set for SFT:**\n\n- Learning rate 5e-4 → **2e-4**: every token of the reply teaches, and TRL's "
        "documentation names about 1e-4 for adapters of larger models."
    )
    assert {updates[name]["visible"] for name in ("beta", "loss", "sft_term", "sft_epochs")} == {False}
    assert (seat.method, updates["learning_rate"]["value"]) == (Method.SFT, "2e-4")


def test_what_was_turned_stays_where_it_does_not_depend_on_the_change_and_is_else_said_to_be_replaced(panel, form):
    _, words, updates = reseated(panel, form | {"method": "sft", "lora_rank": 64, "learning_rate": "3e-4"})
    assert "Learning rate 3e-4 → **2e-4**, in place of yours: every token" in words
    assert "LoRA" not in words
    assert updates["lora_rank"]["value"] == 64


def test_a_large_base_gets_smaller_steps_and_an_unknown_one_counts_as_large(panel, form):
    _, words, updates = reseated(panel, form | {"model": MISTRAL.name})
    assert words.startswith("**Set for a large base:**\n\n- Learning rate 5e-4 → **1e-5**: about 1e-5 for adapters")
    assert updates["learning_rate"]["value"] == "1e-5"
    assert reseated(panel, form | {"model": "owner/unknown"})[0].size is Size.LARGE


def test_a_loss_that_reckons_by_the_token_is_told_apart(panel, form):
    seat, words, updates = reseated(panel, form | {"loss": "ipo"})
    assert words.startswith("**Set for ipo+sft:**\n\n- Beta 0.1 → **1**: ipo aims at a margin of 1 / (2 beta) a token")
    assert (updates["loss"]["value"], updates["sft_term"]["value"], seat.loss) == ("ipo", True, "ipo+sft")
    assert updates["loss"]["info"].endswith("(Azar et al. 2023).")


def test_label_noise_is_there_only_with_the_loss_that_reckons_with_it(panel, form):
    assert panel.fields["label_smoothing"].visible is False
    seat, words, updates = reseated(panel, form | {"loss": "robust"})
    assert (words, updates["label_smoothing"]["visible"]) == ("", True)
    assert reseated(panel, form | {"loss": "hinge"}, seat)[2]["label_smoothing"]["visible"] is False


def test_a_preset_says_what_it_is_and_what_it_sets(panel, form):
    _, words, updates = reseated(panel, form, preset=Preset.QUICK)
    assert words == (
        "**Set for quick look.** Few pairs, once: shows that all of it works, and teaches little.\n\n"
        "- Rows 1000 → **64**\n- Passes 2 → **1**\n- Looks 5 → **2**"
    )
    assert updates["limit"] == 64


def test_nothing_moves_until_something_changes(panel, form):
    assert is_skip(panel.reseat(STARTER, "standard", **form | {"lora_rank": 64}))


def test_what_fills_in_the_form_field_by_field_moves_nothing_on_its_way(panel, blocks):
    heard = next(fn.targets for fn in blocks.fns.values() if fn.fn == panel.reseat)
    assert {event for number, event in heard if number in {field._id for field in panel.filled_outputs}} == {"input"}


def test_everything_can_be_set_back(panel, form):
    seat, _, words, limit, *updates = panel.set_back(STARTER.following(Method.DPO, Size.SMALL, Preset.QUICK, "ipo"))
    back = dict(zip(panel.settings, updates, strict=True))
    assert (seat.loss, words, limit) == ("sigmoid+sft", "Everything is set back to quick look.", 64)
    assert (back["loss"]["value"], back["beta"]["value"], back["epochs"]["value"]) == ("sigmoid", 0.1, 1)


# --- filling in and starting ----------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_recipe_fills_in_the_form_and_starts_nothing(panel, client, form, recipe):
    seat, _, words, preset, *_ = updates = panel.filled_from(recipe.request)
    assert words.startswith(f"Filled in: {recipe.request.method.upper()} on HH-RLHF (")
    sent = filled(panel, form, updates)
    assert is_skip(panel.reseat(seat, preset, **sent))
    assert client.asked == []
    panel.begin(**sent)
    _, request = client.asked[-1]
    assert (request.method, request.dataset, request.limit, request.model) == (
        recipe.request.method, recipe.request.dataset, recipe.request.limit, MISTRAL.name,
    )  # fmt: skip


def test_a_recipe_starts_with_one_click_where_it_fits_and_is_refused_where_not(panel, client, noticed):
    recipe = next(card for card in panel.recipes if card.recipe.name == "seed")
    client.plan = replace(PLAN, fit="won't fit", memory_bytes=17_000_000_000)
    assert is_skip(recipe.start())
    assert noticed == [
        "<strong>That cannot be done</strong><br>&#39;Seed recipe&#39; needs at least 17.0 GB of memory, and this "
        "machine has 8.0 GB. Press &#39;Fill in&#39;, then: Choose a smaller base."
    ]
    client.plan = replace(PLAN, fit="tight")
    tabs, chosen = recipe.start()
    assert (tabs.selected, chosen) == ("run", "")
    assert client.asked[-1] == ("start_run", recipe.recipe.request)


def test_a_run_is_filled_in_as_it_was_with_what_it_leaves_open_at_its_defaults(panel, client, form):
    earlier = adapter("sft-1122-1405")
    (paths.run_dir(earlier) / "data.jsonl").touch()
    request = RunRequest(
        method=Method.DPO, dataset=str(paths.run_dir(earlier) / "data.jsonl"), from_adapter=earlier,
        settings={"learning_rate": 3e-4, "loss": "robust", "label_smoothing": 0.2, "lora_rank": 8}, pinned=("Why?",),
    )  # fmt: skip
    turned = form | {"lora_alpha": 99, "pinned": "something else"}
    seat, _, words, preset, *_ = updates = panel.filled_from(request)
    assert words == "Filled in: DPO on the data of sft-1122-1405."
    sent = filled(panel, turned, updates)
    assert is_skip(panel.reseat(seat, preset, **sent))
    panel.begin(**sent)
    _, asked = client.asked[-1]
    assert replace(asked, settings={}) == replace(request, settings={}, model=READY.base, limit=1000)
    assert asked.settings["lora_alpha"] == 32
    assert {"learning_rate": "3e-4", "loss": "robust", "label_smoothing": 0.2, "lora_rank": 8}.items() <= (
        asked.settings.items()
    )


def test_a_large_base_is_filled_in_with_its_own_defaults(panel):
    seat, *_ = panel.filled_from(RunRequest(method=Method.SFT, dataset="starter", model=MISTRAL.name))
    assert seat == Seat.of(Method.SFT, Size.LARGE)


def test_only_finished_adapters_of_the_base_can_be_started_from(panel, client, form):
    mine = adapter("sft-1")
    adapter("sft-2", base="another")
    runs.create(Method.DPO, "dpo-3", base=READY.base)
    offered = panel.offer_adapters(READY.base, "sft-2")
    assert offered == gr.update(choices=[("the base itself", ""), (mine, mine)], value="")
    assert panel.offer_adapters(READY.base, mine)["value"] == mine
    words = plan(panel, form | {"from_adapter": mine})["words"]
    assert "LoRA on **smollm2-135m-instruct**, from **sft-1** and held to it: 60 steps" in words
    assert client.asked[-1][1].from_adapter == mine


def test_an_adapter_that_is_gone_is_named_and_nothing_is_filled_in(panel, noticed, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("base_fingerprint: x\nmethod: dpo\nfrom_adapter: gone\n")
    assert is_skip(panel.load(str(path), READY.base))
    assert "There is no adapter &#39;gone&#39; of this base to start from." in noticed[0]


# --- the settings file ----------------------------------------------------------------------------------


def test_settings_are_saved_and_come_back_on_another_form(panel, client, form):
    turned = form | {"loss": "ipo", "sft_term": True, "beta": 0.3, "learning_rate": "3e-4", "pinned": "Why?\n\n How? ",
                     "source": "File"}  # fmt: skip
    saved = plan(panel, turned)["save"]
    assert saved["value"].endswith("/settings.yaml")
    seat, _, words, _, *_ = updates = panel.load(saved["value"], READY.base)
    assert words == "Filled in from settings.yaml: DPO."
    sent = filled(panel, form, updates)
    assert (seat.loss, sent["loss"], sent["sft_term"], sent["beta"], sent["learning_rate"]) == (
        "ipo+sft", "ipo", True, 0.3, "3e-4",
    )  # fmt: skip
    assert (sent["pinned"], sent["source"], sent["model"]) == ("Why?\nHow?", "Starter", READY.base)


def test_what_cannot_be_saved_is_not_offered(panel, form):
    assert plan(panel, form | {"learning_rate": "fast"})["save"] == gr.update(value=None, interactive=False)


def test_a_file_with_a_mistake_changes_nothing_and_names_it(panel, noticed, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("method: dpo\nsettings: {beta: 7}\n")
    assert is_skip(panel.load(str(path), READY.base))
    assert noticed == ["<strong>A setting is out of range</strong><br>Beta must be a number from 0.01 to 1, not "
                       "&#39;7&#39;."]  # fmt: skip


# --- what the form says ---------------------------------------------------------------------------------


def test_settings_that_method_or_loss_do_not_use_are_not_sent():
    values = {"method": "sft", "beta": 0.3, "loss": "ipo", "sft_term": True, "learning_rate": "2e-4"}
    assert TrainForm.of(values).request().settings == {"learning_rate": "2e-4"}
    values |= {"method": "dpo", "label_smoothing": 0.2}
    assert TrainForm.of(values).request().settings == {"beta": 0.3, "loss": "ipo+sft", "learning_rate": "2e-4"}
    assert TrainForm.of(values | {"loss": "robust"}).request().settings["label_smoothing"] == 0.2


@pytest.mark.parametrize(("text", "pinned"), [
    ("\n".join(PINNED_PROMPTS), None), ("", ()), (None, ()), (" Why? \n\n", ("Why?",)),
])  # fmt: skip
def test_pinned_prompts_stand_one_a_line(text, pinned):
    assert TrainForm.of({"pinned": text}).request().pinned == pinned


@pytest.mark.parametrize(("form", "reason"), [
    (TrainForm(DataForm(source=DataSource.FILE)), "Choose a file first"),
    (TrainForm(DataForm(source=DataSource.FILE, file="/nowhere/x.jsonl")),
     "That upload is gone: choose the file again"),
    (TrainForm(DataForm(source=DataSource.HUB)), "Type a Hub id first"),
    (TrainForm(DataForm(source=DataSource.HUB, hub_id="/etc/passwd")),
     "'/etc/passwd' is not a Hub id: it is owner/name, or owner/name:folder."),
    (TrainForm(DataForm(source=DataSource.HUB, hub_id="../secrets")),
     "'../secrets' is not a Hub id: it is owner/name, or owner/name:folder."),
    (TrainForm(DataForm(source=DataSource.HUB, hub_id="tests/ui")),
     "'tests/ui' is not a Hub id: it is owner/name, or owner/name:folder."),
    (TrainForm(DataForm(source="elsewhere")), "Choose where the data comes from"),
    (TrainForm(DataForm(source=DataSource.HH_RLHF, part="all")), "Choose a part of HH-RLHF"),
    (TrainForm(DataForm(limit=float("nan"))), "Rows must be a whole number from 8 to 1,000,000 rows, not 'nan'."),
    (TrainForm(DataForm(held_out="many")), "Held out must be a whole number from 0 to 100,000 rows, not 'many'."),
    (TrainForm(method="magic"), "Method must be one of sft, dpo, sft+dpo, not 'magic'."),
    (TrainForm(pinned="x" * 501), "There may be 5 pinned prompts of at most 500 characters each."),
])  # fmt: skip
def test_a_form_that_cannot_start_says_why(form, reason):
    with pytest.raises(RequestError) as refusal:
        form.request()
    assert str(refusal.value) == reason


def test_every_part_of_hh_rlhf_is_a_source():
    forms = [TrainForm(DataForm(source=DataSource.HH_RLHF, part=part, limit=1001)) for part in PARTS]
    assert [form.request().dataset for form in forms] == [
        "Anthropic/hh-rlhf", "Anthropic/hh-rlhf:helpful-base", "Anthropic/hh-rlhf:harmless-base",
        "Anthropic/hh-rlhf:helpful-base@501+Anthropic/hh-rlhf:harmless-base@500",
    ]  # fmt: skip
