"""What settings are set for: a change moves what depends on it, says so, and leaves what the person turned."""

import itertools

import pytest

from core.presets import KNOWN, PRESETS, Preset, Seat, reseat, turned
from core.settings import DEFAULTS, TRAINING, Method, Settings, Size, defaults, used_by, why

STARTER = Seat.of(Method.DPO, Size.SMALL)


def moves(old: Seat, new: Seat, **shown: object) -> dict[str, tuple[object, object, bool]]:
    return {move.setting.name: (move.before, move.after, move.is_own)
            for move in reseat(old, new, defaults(old.method, old.size) | old.values() | shown)[1]}  # fmt: skip


def test_a_method_moves_what_depends_on_it_and_nothing_else():
    assert moves(STARTER, Seat.of(Method.SFT, Size.SMALL)) == {"learning_rate": (5e-4, 2e-4, False)}
    assert moves(STARTER, Seat.of(Method.SFT_DPO, Size.SMALL)) == {
        "learning_rate": (5e-4, 2e-4, False), "loss": ("sigmoid+sft", "sigmoid", False), "epochs": (2, 1, False),
    }  # fmt: skip


def test_a_large_base_moves_every_default_of_a_small_one():
    moved = moves(STARTER, Seat.of(Method.DPO, Size.LARGE))
    assert set(moved) == {"learning_rate", "loss", "epochs", "batch_size", "accumulation"}
    assert moved["learning_rate"] == (5e-4, 1e-5, False)


def test_what_was_turned_is_replaced_only_where_it_depends_on_the_change_and_that_is_known():
    shown = {"learning_rate": "3e-4", "lora_rank": 64}
    new = Seat.of(Method.SFT, Size.SMALL)
    assert moves(STARTER, new, **shown) == {"learning_rate": ("3e-4", 2e-4, True)}
    values, _ = reseat(STARTER, new, STARTER.values() | shown)
    assert values["lora_rank"] == 64
    assert [(move.setting.name, move.after) for move in turned(new, values)] == [("lora_rank", 64)]


@pytest.mark.parametrize("loss", ["ipo", "sigmoid_norm+sft"])
def test_a_loss_that_reckons_by_the_token_gets_another_beta_and_back(loss):
    new = STARTER.following(Method.DPO, Size.SMALL, Preset.STANDARD, loss)
    shown = STARTER.values() | {"loss": loss}
    values, moved = reseat(STARTER, new, shown)
    assert [(m.setting.name, m.before, m.after) for m in moved] == [("beta", 0.1, 1.0)]
    assert values["loss"] == loss
    back = new.following(Method.DPO, Size.SMALL, Preset.STANDARD, "hinge")
    assert reseat(new, back, values | {"loss": "hinge"})[0]["beta"] == 0.1


def test_a_chosen_loss_stays_where_the_method_has_the_same_one_and_else_gives_way():
    large = Seat.of(Method.DPO, Size.LARGE, loss="hinge")
    assert large.following(Method.SFT_DPO, Size.LARGE, Preset.STANDARD, "hinge").loss == "hinge"
    small = Seat.of(Method.DPO, Size.SMALL, loss="hinge")
    assert small.following(Method.SFT_DPO, Size.SMALL, Preset.STANDARD, "hinge").loss == "sigmoid"


def test_label_noise_has_a_value_only_with_the_loss_that_reckons_with_it():
    assert "label_smoothing" not in STARTER.values()
    assert Seat.of(Method.DPO, Size.SMALL, loss="robust").values()["label_smoothing"] == 0.1


def test_standard_is_the_defaults():
    for method, size in DEFAULTS:
        values = Seat.of(method, size).values()
        assert values.pop("limit") == 1000
        assert values == {name: value for name, value in defaults(method, size).items() if name in values}


@pytest.mark.parametrize(("preset", "method", "size"), list(itertools.product(Preset, Method, Size)))
def test_every_preset_can_be_run(preset, method, size):
    values = Seat.of(method, size, preset).values()
    KNOWN["limit"].check(values.pop("limit"))
    assert Settings.of(method, size, values)
    assert set(PRESETS.get((preset, method, size), {})) - {"limit"} <= {setting.name for setting in used_by(method)}


@pytest.mark.parametrize(("method", "size"), list(itertools.product(Method, Size)))
def test_a_quick_look_costs_less_than_standard_and_thorough_more(method, size):
    def passes(preset: Preset) -> int:
        values = Seat.of(method, size, preset).values()
        return values["limit"] * (values["epochs"] + values.get("sft_epochs", 0))

    assert passes(Preset.QUICK) < passes(Preset.STANDARD) < passes(Preset.THOROUGH)


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(itertools.product(Method, Size), 2)))
def test_every_move_has_its_reason(old, new):
    one, other = Seat.of(*old), Seat.of(*new)
    assert all(move.reason for move in reseat(one, other, one.values())[1])
    for loss in ("ipo", "robust"):
        chosen = Seat.of(*new, loss=loss)
        assert all(move.reason for move in reseat(other, chosen, other.values() | {"loss": loss})[1])


def test_a_preset_moves_rows_passes_and_looks():
    assert moves(STARTER, Seat.of(Method.DPO, Size.SMALL, Preset.QUICK)) == {
        "limit": (1000, 64, False), "epochs": (2, 1, False), "looks": (5, 2, False),
    }  # fmt: skip


@pytest.mark.parametrize(("shown", "is_turned"), [("5e-4", False), (0.0005, False), ("5e-3", True), ("", True),
                                                  (None, True), ([1], True)])  # fmt: skip
def test_a_field_is_turned_when_it_means_something_else(shown, is_turned):
    assert bool(turned(STARTER, STARTER.values() | {"learning_rate": shown})) == is_turned


def test_a_reason_names_a_setting_that_there_is():
    assert why("beta", Method.DPO, Size.SMALL, "ipo").startswith("ipo aims at a margin of 1 / (2 beta) a token")
    assert why("seed", Method.DPO, Size.SMALL, "sigmoid") == ""
    assert set(TRAINING) <= set(KNOWN)
