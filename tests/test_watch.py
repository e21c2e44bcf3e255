"""A run as it is watched on its way, run in two stages, discarded: on a tiny random model in float32."""

from pathlib import Path

import pytest
import torch

from core import paths, run_progress, run_request, runner, runs, timeline, token_rows
from core.client import RunRequest
from core.device import Device
from core.errors import RequestError, SettingError
from core.loader import ResidentModel
from core.runs import Phase, RunStatus
from core.settings import Method, Settings, Size
from core.watch import look_steps
from tests.test_runner import FAST, request, run, same, weights

CPU = Device("cpu", torch.float32, "sdpa", "for tests")
PINNED = ("Where is the tea?", "Which way does the river bend?")
LOOK_KEYS = {"eval_n", "eval_preference_accuracy", "eval_reward_accuracy", "eval_reward_margin", "moved"}

pytestmark = pytest.mark.usefixtures("short_looks")


@pytest.fixture
def resident(tiny_model_dir: Path) -> ResidentModel:
    paths.ensure_home()
    return ResidentModel(tiny_model_dir, CPU)


def watched(pairs_file: Path, method: str = "dpo", looks: int = 2, **changes) -> RunRequest:
    settings = {"looks": looks, "learning_rate": 1e-2, **changes.pop("settings", {})}
    return request(pairs_file, method, pinned=PINNED, settings=settings, **changes)


@pytest.mark.parametrize(
    ("steps", "looks", "at"), [(60, 5, {12, 24, 36, 48, 60}), (3, 5, {1, 2, 3}), (7, 2, {4, 7}), (9, 0, set())]
)
def test_looks_are_evenly_apart_and_the_last_step_is_one(steps, looks, at):
    assert look_steps(steps, looks) == at


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_looks_change_nothing_that_is_trained(resident, pairs_file, method):
    unseen = run(resident, watched(pairs_file, method, looks=0))
    seen = run(resident, watched(pairs_file, method))
    assert same(weights(unseen.name), weights(seen.name))
    assert timeline.read(unseen.name).looks == ()
    assert not LOOK_KEYS & set().union(*runs.read_metrics(unseen.name))


def test_a_look_measures_held_out_pairs_and_answers_the_pinned_prompts(tiny_mistral_dir, pairs_file):
    paths.ensure_home()
    # The tiny Llama says nothing at all.
    resident = ResidentModel(tiny_mistral_dir, CPU)
    done = run(resident, watched(pairs_file))
    assert done.status is RunStatus.FINISHED, done.reason
    rows = {row["step"]: row for row in runs.read_metrics(done.name)}
    at = look_steps(done.steps, 2)
    assert {step for step, row in rows.items() if row.keys() >= LOOK_KEYS} == at
    assert all(row["pairs_per_s"] > 0 and row["tokens_per_s"] > 0 and row["memory_bytes"] > 0 for row in rows.values())
    seen = timeline.read(done.name)
    assert seen.prompts == PINNED
    assert [look.step for look in seen.looks] == sorted(at)
    assert seen.looks[-1].moved == done.result["moved"] == rows[done.steps]["moved"] > 0
    # The last look is of the very adapter that is measured at the end.
    assert rows[done.steps]["eval_preference_accuracy"] == done.result["preference_accuracy_tuned"]
    assert rows[done.steps]["eval_reward_margin"] == pytest.approx(done.result["held_out_reward_margin"], rel=1e-4)


def test_a_resumed_run_looks_anew_and_shows_no_step_twice(resident, pairs_file):
    whole = run(resident, watched(pairs_file, looks=4))

    def stop() -> None:
        control.is_stopping = control.is_stopping or len(runs.read_metrics(runs.list_runs()[0].name)) >= 2

    control = run_progress.Control(serve=stop)
    stopped = run(resident, watched(pairs_file, looks=4), control)
    timeline.add(stopped.name, 99, ["from a course that was left", "as it never came to be"], 0.5)
    resumed = runner.execute(resident, stopped.name, run_progress.Control(), is_resumed=True)
    assert resumed.status is RunStatus.FINISHED, resumed.reason
    looks, expected = (timeline.read(name).looks for name in (resumed.name, whole.name))
    # The look of the step that it was stopped after is left out: who stops does not want to wait for it.
    assert looks == tuple(look for look in expected if look.step != stopped.step)


def test_a_stop_in_the_middle_of_a_look_keeps_what_is_trained(resident, pairs_file, monkeypatch):
    control = run_progress.Control()

    def stopping(*_) -> None:
        control.is_stopping = True
        raise runner.Cancelled("Stopped.")

    monkeypatch.setattr("core.evaluate.look_figures", stopping)
    stopped = run(resident, watched(pairs_file, looks=4), control)
    assert stopped.status is RunStatus.STOPPED
    assert stopped.name in runs.list_adapters()


def test_what_is_discarded_is_gone(resident, pairs_file):
    kept = run(resident, watched(pairs_file))

    def discard() -> None:
        if runs.list_runs()[0].phase == Phase.TRAINING:
            control.discard()

    control = run_progress.Control(serve=discard)
    discarded = run(resident, watched(pairs_file), control)
    assert discarded.reason == "Discarded: nothing of it is kept."
    assert [r.name for r in runs.list_runs()] == [kept.name]
    resident.prove_base()


def test_sft_then_dpo_are_two_runs_and_the_second_is_held_to_the_first(resident, pairs_file):
    asked = watched(pairs_file, "sft+dpo", run="two", settings={"loss": "sigmoid", "sft_learning_rate": 1e-2})
    first = run(resident, asked)
    assert (first.name, first.method, first.facts["then"]) == ("two-sft", Method.SFT, True)
    second = runner.next_of(resident, first)
    second = runner.execute(resident, second.name, run_progress.Control())
    assert second.status is RunStatus.FINISHED, second.reason
    assert (second.name, second.method, second.facts["follows"]) == ("two", Method.DPO, "two-sft")
    assert runs.read_metrics("two")[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    config = runs.read_config(paths.run_dir("two") / "run.yaml")
    assert config["from_adapter"] == "two-sft"
    assert config["data_sha256"] == runs.read_config(paths.run_dir("two-sft") / "run.yaml")["data_sha256"]
    assert runner.next_of(resident, second) is None
    # Both stages again from the first one's file, to the same bits.
    again = run(resident, RunRequest(config=str(paths.run_dir("two-sft") / "run.yaml"), then={}))
    assert same(weights(again.name), weights("two-sft"))


def test_a_stopped_first_stage_goes_on_to_the_second(resident, pairs_file):
    def stop() -> None:
        control.is_stopping = control.is_stopping or runs.list_runs()[0].phase == Phase.TRAINING

    control = run_progress.Control(serve=stop)
    stopped = run(resident, watched(pairs_file, "sft+dpo"), control)
    assert runner.next_of(resident, stopped) is None
    resumed = runner.execute(resident, stopped.name, run_progress.Control(), is_resumed=True)
    assert runner.next_of(resident, resumed).facts["follows"] == stopped.name


def test_a_second_stage_that_cannot_begin_says_so_on_the_first(resident, pairs_file):
    first = run(resident, watched(pairs_file, "sft+dpo", run="two"))
    runs.create(Method.DPO, "two")
    assert runner.next_of(resident, first) is None
    assert runs.read_run("two-sft").reason == (
        "It is finished, but the DPO run after it could not begin: There is a run named 'two' already. Take another "
        "name, or resume it."
    )


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"pinned": ("a",) * 6}, SettingError, "There may be 5 pinned prompts of at most 500 characters each."),
        ({"pinned": ("",)}, SettingError, "Pinned prompts must be texts, one a line."),
        ({"then": 5}, RequestError, "'then' must hold the settings of the DPO run that follows, not '5'."),
        ({"then": {"beta": 9}}, SettingError, "Beta must be a number from 0.01 to 1, not '9'."),
    ],
)
def test_what_cannot_be_watched_or_follow_is_refused_before_anything_is_made(pairs_file, changes, kind, sentence):
    with pytest.raises(kind) as error:
        run_request.check(RunRequest(method="sft", dataset=str(pairs_file), settings=FAST, **changes))
    assert str(error.value) == sentence
    assert runs.list_runs() == []


def test_data_without_rejected_replies_teaches_sft_and_says_how_much_likelier_it_became(resident, tmp_path):
    path = tmp_path / "said.jsonl"
    path.write_text("".join(f'{{"instruction": "What is in box {n}?", "output": "Box {n} holds {n} apples."}}\n'
                            for n in range(40)))  # fmt: skip
    done = run(resident, watched(path, "sft"))
    assert done.status is RunStatus.FINISHED, done.reason
    assert done.result["preference_accuracy_tuned"] is None
    assert done.result["chosen_gain"]["mean"] == pytest.approx(
        done.result["held_out_logps_chosen_tuned"] - done.result["held_out_logps_chosen_base"]
    )
    assert done.result["chosen_gain"]["positive"] == done.result["held_out"] == 10
    with pytest.raises(RequestError, match="rejected"):
        run_request.check(watched(path, "dpo"))


def test_facts_count_what_max_length_cuts(resident, pairs_file):
    _, data = run_request.check(request(pairs_file))
    longest = token_rows.tokenise(resident.template, data.train, 1024)[0]
    limit = max(len(row.prompt_ids) + len(row.chosen_ids) for row in longest)
    rows, _ = token_rows.tokenise(resident.template, data.train, limit)
    facts = token_rows.facts(rows)
    assert (facts["replies"], facts["longest"]) == (2 * facts["pairs"], limit)
    num_over = sum(len(row.prompt_ids) + len(row.rejected_ids) > limit for row in longest)
    assert facts["cut_replies"] == num_over > 0
    assert facts["chosen_longer"] == 0


def test_the_robust_loss_alone_heeds_label_noise(resident, pairs_file):
    def trained(loss: str, noise: float) -> dict[str, torch.Tensor]:
        settings = {"loss": loss, "label_smoothing": noise}
        return weights(run(resident, request(pairs_file, settings=settings)).name)

    assert same(trained("sigmoid", 0.1), trained("sigmoid", 0.4))
    assert not same(trained("robust", 0.1), trained("robust", 0.4))


def test_settings_of_two_stages_give_each_its_own_rate():
    asked = RunRequest(method="sft+dpo", dataset="starter", settings={"sft_learning_rate": 3e-4, "learning_rate": 2e-5})
    first, second = run_request.stages(asked, Size.SMALL)
    assert Settings.of(Method.SFT, Size.SMALL, first.settings).learning_rate == 3e-4
    assert Settings.of(Method.DPO, Size.SMALL, second.settings).learning_rate == 2e-5
    assert first.then == second.settings
