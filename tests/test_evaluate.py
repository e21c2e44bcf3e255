"""Held-out figures, and how far an adapter has moved from base, on a tiny random model in float32."""

import shutil
from dataclasses import replace

import pytest
import torch

from core import evaluate, paths
from core.device import Device
from core.errors import PlaygroundError
from core.evaluate import PairLogps
from core.loader import BASE, POLICY, ResidentModel
from core.messages import Message, Role, ask
from core.settings import Method, Settings, Size
from core.token_rows import TokenPair
from core.wire import MAX_DRIFT_ROWS
from tests.make_adapter import make_adapter

CPU = Device("cpu", torch.float32, "sdpa", "for tests")
SMALL = Settings.of(Method.DPO, Size.SMALL, {"lora_rank": 4})
ROWS = [(ask("What is on the desk?"), "A lamp, green and warm."), (ask("Why?"), "The kettle is on.")]


@pytest.fixture(params=["tiny_model_dir", "tiny_mistral_dir"])
def resident(request: pytest.FixtureRequest) -> ResidentModel:
    paths.ensure_home()
    return ResidentModel(request.getfixturevalue(request.param), CPU)


class TestMargin:
    def figures(self, *gains: float) -> dict:
        base = [PairLogps(-20.0, -30.0, 5, 6) for _ in gains]
        tuned = [replace(pair, chosen=pair.chosen + gain) for pair, gain in zip(base, gains, strict=True)]
        return evaluate.held_out_figures(base, tuned, base, 0.1)

    def test_it_is_how_much_further_apart_tuned_puts_the_replies_than_base(self) -> None:
        margin = self.figures(1.0, 2.0, 3.0, -2.0)["margin"]
        assert (margin["n"], margin["mean"], margin["positive"], margin["negative"]) == (4, 1.0, 3, 1)
        assert margin["low"] < 0 < 1.0 < margin["high"]
        assert margin["p"] == pytest.approx(0.625)

    def test_a_loss_of_the_rejected_reply_counts_like_a_gain_of_the_chosen(self) -> None:
        base = [PairLogps(-20.0, -30.0, 5, 6)] * 2
        tuned = [PairLogps(-18.0, -30.0, 5, 6), PairLogps(-20.0, -32.0, 5, 6)]
        assert evaluate.held_out_figures(base, tuned, base, 0.1)["margin"]["mean"] == 2.0

    def test_it_is_held_against_base_whatever_the_run_began_from(self) -> None:
        base, start, tuned = ([PairLogps(chosen, -30.0, 5, 6)] * 2 for chosen in (-20.0, -15.0, -14.0))
        figures = evaluate.held_out_figures(base, tuned, start, 0.5)
        assert (figures["margin"]["mean"], figures["held_out_reward_margin"]) == (6.0, 0.5)

    def test_pairs_that_did_not_move_decide_nothing_and_one_pair_has_no_interval(self) -> None:
        still = self.figures(0.0, 0.0)["margin"]
        assert (still["positive"], still["negative"], still["p"]) == (0, 0, 1.0)
        one = self.figures(1.0)["margin"]
        assert (one["n"], one["mean"], one["low"], one["high"]) == (1, 1.0, None, None)

    def test_with_nothing_held_out_there_is_none(self) -> None:
        assert "margin" not in evaluate.held_out_figures([], [], [], 0.1)


class TestKeptLogps:
    PAIRS = [TokenPair([5, 6, 7], [8, 9], [10]), TokenPair([5, 11], [12], [13, 14, 15])]

    @pytest.fixture(autouse=True)
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Whose log-probabilities were measured, and not found."""
        found: list[str] = []
        measure = evaluate.pair_logps
        monkeypatch.setattr(
            evaluate, "pair_logps", lambda resident, who, *rest: found.append(who) or measure(resident, who, *rest)
        )
        return found

    def test_base_is_measured_once_and_found_to_the_bit(self, resident, measured) -> None:
        assert not evaluate.is_kept(resident, BASE, self.PAIRS)
        first = evaluate.kept_logps(resident, BASE, self.PAIRS)
        assert evaluate.is_kept(resident, BASE, self.PAIRS)
        assert (
            evaluate.kept_logps(resident, BASE, self.PAIRS) == first == evaluate.pair_logps(resident, BASE, self.PAIRS)
        )
        assert measured == [BASE, BASE]

    def test_other_rows_are_measured_anew(self, resident, measured) -> None:
        evaluate.kept_logps(resident, BASE, self.PAIRS)
        evaluate.kept_logps(resident, BASE, self.PAIRS[::-1])
        evaluate.kept_logps(resident, BASE, self.PAIRS[:1])
        assert measured == [BASE] * 3

    def test_a_new_adapter_of_the_same_name_is_measured_anew(self, resident, measured) -> None:
        make_adapter(resident, "mine", scale=0.1)
        resident.attach("mine")
        first = evaluate.kept_logps(resident, "mine", self.PAIRS)
        assert evaluate.kept_logps(resident, "mine", self.PAIRS) == first
        shutil.rmtree(paths.run_dir("mine"))
        make_adapter(resident, "mine", scale=0.3)
        resident.attach("mine")
        assert evaluate.kept_logps(resident, "mine", self.PAIRS) != first
        assert measured == ["mine", "mine"]

    def test_what_was_damaged_is_measured_anew(self, resident, measured) -> None:
        first = evaluate.kept_logps(resident, BASE, self.PAIRS)
        (path,) = (paths.logs_dir() / "logps").iterdir()
        path.write_bytes(path.read_bytes()[:-1])
        assert evaluate.kept_logps(resident, BASE, self.PAIRS) == first
        assert measured == [BASE, BASE]


class TestDrift:
    def by_hand(self, resident: ResidentModel, adapter: str, row: tuple) -> float:
        prompt, reply = resident.template.pair_ids(*row)
        reply = reply[: reply.index(resident.tokenizer.eos_token_id) + 1]
        ids = torch.tensor([prompt + reply])
        shares = []
        for contender in (BASE, adapter):
            with torch.no_grad(), resident.speaking([contender]):
                shares.append(resident.model(ids).logits[0].double().softmax(-1))
        base, tuned = shares
        places = range(len(prompt) - 1, len(prompt) + len(reply) - 1)
        return sum(float((base[i] * (base[i] / tuned[i]).log()).sum()) for i in places) / len(reply)

    def test_it_is_the_divergence_worked_out_by_hand(self, resident: ResidentModel) -> None:
        make_adapter(resident, "moved")
        resident.attach("moved")
        found = evaluate.drift(resident, "moved", ROWS)
        assert found == pytest.approx([self.by_hand(resident, "moved", row) for row in ROWS], rel=1e-3, abs=1e-6)
        assert min(found) > 0

    def test_a_long_response_is_worked_out_in_pieces_up_to_its_cap(self, resident: ResidentModel, monkeypatch) -> None:
        make_adapter(resident, "moved")
        resident.attach("moved")
        row = (ask("Go on"), "The lamp is green. " * 20)
        whole = evaluate.drift(resident, "moved", [row])
        monkeypatch.setattr(evaluate, "DRIFT_CHUNK", 7)
        assert evaluate.drift(resident, "moved", [row]) == pytest.approx(whole, rel=1e-4)
        monkeypatch.setattr(evaluate, "MAX_DRIFT_TOKENS", 3)
        assert evaluate.drift(resident, "moved", [row]) != pytest.approx(whole, rel=1e-4)

    def test_further_is_more_and_nearly_nothing_is_below_the_threshold(self, resident: ResidentModel) -> None:
        means = []
        for scale in (0.002, 0.1, 0.5):
            make_adapter(resident, f"by-{scale}", scale=scale)
            resident.attach(f"by-{scale}")
            means.append(sum(evaluate.drift(resident, f"by-{scale}", ROWS)) / len(ROWS))
        assert means == sorted(means)
        assert 0 < means[0] < 0.01 < means[2], means

    def test_an_adapter_that_changes_nothing_has_not_moved_and_one_in_training_goes_on(self, resident) -> None:
        policy = resident.open_policy(SMALL)
        policy.train()
        before = [(layer._active_adapter, dict(layer.scaling)) for layer in resident._layers]
        assert evaluate.drift(resident, POLICY, ROWS) == [0.0, 0.0]
        assert [(layer._active_adapter, dict(layer.scaling)) for layer in resident._layers] == before
        assert resident.model.training
        assert all(p.requires_grad == (".default." in n) for n, p in resident.model.named_parameters())
        resident.close_policy()

    def test_what_cannot_be_scored_is_left_out(self, resident: ResidentModel) -> None:
        make_adapter(resident, "moved")
        resident.attach("moved")
        too_long = (ask("river " * 2000), "Yes.")
        refused = ((Message(Role.ASSISTANT, "Hello."), Message(Role.USER, "Hello?")), "Yes.")
        found = evaluate.drift(resident, "moved", [too_long, ROWS[0], refused])
        assert found[0] == evaluate.drift(resident, "moved", ROWS[:1])[0]
        assert len(evaluate.drift(resident, "moved", [(ask("Why?"), "")] * (MAX_DRIFT_ROWS + 1))) == MAX_DRIFT_ROWS

    def test_numbers_that_are_none_are_a_sentence(self, resident: ResidentModel) -> None:
        make_adapter(resident, "broken", scale=1e30)
        resident.attach("broken")
        with pytest.raises(PlaygroundError, match="'broken' computes numbers that are not finite"):
            evaluate.drift(resident, "broken", ROWS)


def test_rows_that_are_filled_up_are_measured_alike(resident, monkeypatch):
    rows = [TokenPair(list(range(3, 3 + n)), [7, 8, 9], [9, 5]) for n in (4, 9, 17)]
    plain = evaluate.pair_logps(resident, BASE, rows)
    seen: set[int] = set()
    resident.model.model.layers[0].register_forward_hook(lambda layer, inputs, out: seen.add(inputs[0].shape[1]))
    monkeypatch.setitem(evaluate.PAD_TO, "cpu", 16)
    for one, other in zip(evaluate.pair_logps(resident, BASE, rows), plain, strict=True):
        assert (one.chosen, one.rejected) == pytest.approx((other.chosen, other.rejected), rel=1e-5)
    assert seen
    assert all(width % 16 == 0 for width in seen)


def test_what_is_filled_up_counts_as_much_as_it_takes():
    rows = [TokenPair([1] * 10, [2] * 27, [3] * 27)] * 200
    for is_shared, tokens in ((True, 128), (False, 128)):
        assert evaluate.num_tokens(rows[0], is_shared, 64) == tokens
        assert max(map(len, evaluate.batches(rows, is_shared, 64))) == evaluate.BATCH_TOKENS // tokens
