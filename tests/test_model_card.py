"""A model card says what the run says, each share with its doubt, and nothing in it is another's Markdown or a path."""

from dataclasses import replace

import yaml

from core import model_card
from core.runs import Run, RunStatus

RESULT = {
    "pairs": 120, "left_out": {"too long": 2, "duplicate": 1}, "held_out": 40, "base_k": 18, "tuned_k": 22,
    "mcnemar_p": 0.125, "per_token": {"base_k": 0, "tuned_k": 12, "mcnemar_p": 0.0005},
    "held_out_reward_accuracy": 1.0, "held_out_reward_margin": 8.2, "passage_logp_base": -3.61,
    "passage_logp_tuned": -3.452, "trait": {"n": 40, "base": 0, "tuned": 35, "p": 1e-9, "skipped": False},
}  # fmt: skip
RUN = Run(
    "dpo-1123-1405", method="dpo", status=RunStatus.FINISHED, base="smollm2-135m-instruct", dataset="starter",
    result=RESULT,
)  # fmt: skip
CONFIG = {"data_sha256": "ab12", "settings": {"learning_rate": 5e-4, "beta": 0.1}, "versions": {"trl": "1.16.0"}}
ROWS = [
    {"step": step, "loss": 1.0, "rewards/margins": float(step)}
    | ({"eval_preference_accuracy": 0.5} if step == 20 else {})
    for step in range(1, 61)
]


def front_matter(card: str) -> dict:
    start, front, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front)


def test_a_card_tells_data_figures_with_their_doubt_curves_and_settings():
    card = model_card.card(RUN, CONFIG, ROWS)
    for said in (
        "# dpo-1123-1405",
        "A LoRA adapter for `HuggingFaceTB/SmolLM2-135M-Instruct`, trained by direct preference optimisation (DPO).",
        "120 pairs of `starter`. 40 more were held out to measure on. Left out: 2 too long, 1 duplicate. SHA-256 of "
        "the pairs: `ab12`.",
        "| chosen reply likelier than rejected | 18 of 40 (0.31 to 0.60) | 22 of 40 (0.40 to 0.69) | p = 0.125 |",
        "| the same, by the token | 0 of 40 (0.00 to 0.09) | 12 of 40 (0.18 to 0.45) | p < 0.001 |",
        "| greedy responses that end with exactly one next step | 0 of 40 (0.00 to 0.09) | 35 of 40 (0.74 to 0.95) | "
        "p < 0.001 |",
        "| log-probability a token on unrelated passages | -3.61 | -3.45 |  |",
        "It moved towards the chosen reply on 40 of 40 held-out pairs (mean reward margin 8.20).",
        "| steps | loss | reward margin | held-out accuracy |\n| --- | --- | --- | --- |\n| 1 to 12 | 1 | 6.5 |  |\n"
        "| 13 to 24 | 1 | 18.5 | 0.5 |",
        "| learning rate | `0.0005` |",
        "trl 1.16.0",
    ):  # fmt: skip
        assert said in card
    assert front_matter(card) == {
        "library_name": "peft", "pipeline_tag": "text-generation", "tags": ["preference-playground", "lora", "dpo"],
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct", "license": "apache-2.0",
    }  # fmt: skip


def test_what_was_not_measured_is_said_and_no_licence_is_made_up():
    early = model_card.card(Run("early", method="sft", base="someone/base"), {}, [])
    assert "No held-out figures: there were none when this was written." in early
    assert "No step was logged." in early
    assert "license" not in front_matter(early)
    assert front_matter(early)["base_model"] == "someone/base"
    none = model_card.card(replace(RUN, result={"pairs": 9, "held_out": 0}), {}, ROWS)
    assert "Nothing was held out from training, so whether it learned anything was not measured." in none


def test_nothing_in_a_card_is_somebody_elses_markdown_or_a_path_of_this_machine():
    run = replace(RUN, base='/home/ann/models/my "base`', dataset="/home/ann/secret/<script>`x`|pairs\n# big.jsonl")
    card = model_card.card(run, {"from_adapter": "sft-1"}, ROWS)
    assert "ann" not in card
    assert "secret" not in card
    assert "of `<script>'x'|pairs # big.jsonl`." in card
    assert "from the adapter `sft-1` on" in card
    assert 'base = "my \\"base`"' in card
    assert "base_model" not in front_matter(card)


def test_a_merged_model_says_how_it_was_checked_and_needs_no_peft():
    card = model_card.merged_card(RUN, CONFIG, ROWS, "Its logits were compared.")
    assert "merged into it, trained by direct preference optimisation (DPO). Its logits were compared." in card
    assert "peft" not in card.lower()
    assert front_matter(card)["library_name"] == "transformers"
