"""What a run changed, measured on what it never saw: held-out pairs, plain passages, the starter's trait, drift.

Loops of our own over the resident model; between batches they serve what waits and stop when asked.
Log-probabilities are TRL's own, through its fused head.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import kl_div, log_softmax

from core import adapters, fused_head, paths, reference_file, shared_prefix, stats
from core.chat_template import PrefixError, TemplateRefusal
from core.errors import Cancelled, PlaygroundError
from core.generate import answer
from core.loader import BASE, ResidentModel
from core.messages import Conversation
from core.settings import TRAIT_MAX_NEW_TOKENS, Decoding
from core.token_rows import PAD_TO, TokenPair
from core.traits import ends_with_one_next_step
from core.transcripts import PreferencePair
from core.wire import MAX_DRIFT_ROWS, Turn

# Positions of one no-gradient batch: some 0.5 GB of activations on a 7B base in half precision.
BATCH_TOKENS = 4096
# Tokens of a response along which drift is measured, and how many of them at once: bounds what the vocabulary costs.
MAX_DRIFT_TOKENS = 512
DRIFT_CHUNK = 64
# Of what is kept: before 2, an adapter with dropout was measured with it.
KEPT_VERSION = 2
# What of a row its collator takes.
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
GREEDY = Decoding(max_new_tokens=TRAIT_MAX_NEW_TOKENS, temperature=0.0)


@dataclass(frozen=True)
class PairLogps:
    """Summed log-probabilities of a pair's replies, and their lengths in tokens; nought where there is no reply."""

    chosen: float
    rejected: float
    num_chosen: int
    num_rejected: int

    @property
    def is_right(self) -> bool:
        return self.chosen > self.rejected

    @property
    def is_right_per_token(self) -> bool:
        return self.chosen / max(self.num_chosen, 1) > self.rejected / max(self.num_rejected, 1)


Between = Callable[[int], None]


@torch.no_grad()
def pair_logps(
    resident: ResidentModel, contender: str, rows: Sequence[TokenPair], between: Between = lambda done: None
) -> list[PairLogps]:
    """One `PairLogps` a row, in order. `between(done)` is called after every batch and may raise to stop."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference  # dear: not at the engine's start

    pad_to = PAD_TO.get(resident.device.kind, 1)
    collate = DataCollatorForPreference(
        pad_token_id=int(resident.tokenizer.pad_token_id), pad_to_multiple_of=pad_to if pad_to > 1 else None
    )
    found: dict[int, PairLogps] = {}
    for indices in batches(rows, not shared_prefix.why_not(resident.model), pad_to):
        batch = collate([{name: getattr(rows[i], name) for name in IDS} for i in indices])
        ids, mask = batch["input_ids"], batch["completion_mask"]
        with fused_head.scoring(resident.model, pad_to), resident.speaking([contender]):
            out = resident.model(
                input_ids=ids.to(resident.device.kind),
                attention_mask=batch["attention_mask"].to(resident.device.kind),
                labels=ids.masked_fill(mask == 0, -100).to(resident.device.kind),
                fused_lm_head=True,
                use_cache=False,
            )
        sums = out.log_probs.float().sum(dim=1).tolist()
        half = len(indices)
        for k, i in enumerate(indices):
            row = rows[i]
            found[i] = PairLogps(sums[k], sums[half + k], len(row.chosen_ids), len(row.rejected_ids))
        between(len(found))
    return [found[i] for i in range(len(rows))]


def kept_logps(
    resident: ResidentModel, contender: str, rows: Sequence[TokenPair], between: Between = lambda done: None
) -> list[PairLogps]:
    """`pair_logps` of base or a finished adapter, which never change: measured once, and kept for the next run."""
    path = _kept_path(resident, contender, rows)
    logps = reference_file.read(path, len(rows))
    if logps is None:
        logps = [(found.chosen, found.rejected) for found in pair_logps(resident, contender, rows, between)]
        path.parent.mkdir(exist_ok=True)
        reference_file.write(path, logps)
    return [PairLogps(*both, len(row.chosen_ids), len(row.rejected_ids)) for both, row in zip(logps, rows, strict=True)]


def is_kept(resident: ResidentModel, contender: str, rows: Sequence[TokenPair]) -> bool:
    return _kept_path(resident, contender, rows).is_file()


def _kept_path(resident: ResidentModel, contender: str, rows: Sequence[TokenPair]) -> Path:
    """Named by all that the numbers depend on. All rows, because what shares a batch decides a last digit, and a run
    that is repeated must find the digits of the first."""
    mark = "" if contender == BASE else adapters.mark_of(adapters.find(contender))
    key = hashlib.sha256(
        f"{KEPT_VERSION} {resident.fingerprint} {mark} {resident.device.kind} {resident.device.dtype}".encode()
    )
    for row in rows:
        key.update(json.dumps([row.prompt_ids, row.chosen_ids, row.rejected_ids]).encode())
    return paths.logs_dir() / "logps" / f"{key.hexdigest()[:32]}.safetensors"


def batches(rows: Sequence[TokenPair], is_shared: bool, pad_to: int = 1) -> list[list[int]]:
    """Indices, longest first, so many to a batch that padding included it stays under `BATCH_TOKENS`."""
    found: list[list[int]] = []
    tokens = [num_tokens(row, is_shared, pad_to) for row in rows]
    for i in sorted(range(len(rows)), key=lambda i: -tokens[i]):
        if not found or tokens[found[-1][0]] * (len(found[-1]) + 1) > BATCH_TOKENS:
            found.append([])
        found[-1].append(i)
    return found


def num_tokens(row: TokenPair, is_shared: bool, pad_to: int = 1) -> int:
    """Tokens that go through the model to score both replies, filled up; without a rejected one the prompt goes
    twice."""
    sequences, length = (1, row.shared_length) if is_shared and row.rejected_ids else (2, row.length)
    return sequences * -(-length // pad_to) * pad_to


def held_out_figures(
    base: Sequence[PairLogps], tuned: Sequence[PairLogps], reference: Sequence[PairLogps], beta: float
) -> dict[str, Any]:
    """Reward accuracy and margin of tuned against its reference, and preference accuracy of base and tuned.

    Rows without a rejected reply give how much likelier the chosen one became, and no preference.
    """
    nothing = {"held_out": len(base), "preference_accuracy_base": None, "preference_accuracy_tuned": None}
    if not base:
        return nothing
    said = {
        "held_out_logps_chosen_base": math.fsum(p.chosen for p in base) / len(base),
        "held_out_logps_chosen_tuned": math.fsum(p.chosen for p in tuned) / len(tuned),
    }
    if not all(p.num_rejected for p in base):
        return {
            **nothing,
            **said,
            "chosen_gain": _gain([t.chosen - b.chosen for b, t in zip(base, tuned, strict=True)]),
        }
    margins = _margins(tuned, reference, beta)
    summed = _paired([p.is_right for p in base], [p.is_right for p in tuned])
    return {
        "held_out": len(base),
        **said,
        "held_out_reward_accuracy": sum(m > 0 for m in margins) / len(margins),
        "held_out_reward_margin": math.fsum(margins) / len(margins),
        "preference_accuracy_base": summed["base_k"] / len(base),
        "preference_accuracy_tuned": summed["tuned_k"] / len(base),
        "margin": _margin(base, tuned),
        **summed,
        "per_token": _paired([p.is_right_per_token for p in base], [p.is_right_per_token for p in tuned]),
    }


def look_figures(policy: Sequence[PairLogps], reference: Sequence[PairLogps], beta: float) -> dict[str, Any]:
    """What a look on the way says of held-out pairs; `reference` is empty where there is none."""
    if not all(p.num_rejected for p in policy):
        return {}
    figures = {"eval_n": len(policy), "eval_preference_accuracy": sum(p.is_right for p in policy) / len(policy)}
    if not reference:
        return figures
    margins = _margins(policy, reference, beta)
    return {
        **figures,
        "eval_reward_accuracy": sum(m > 0 for m in margins) / len(margins),
        "eval_reward_margin": math.fsum(margins) / len(margins),
    }


def _margins(policy: Sequence[PairLogps], reference: Sequence[PairLogps], beta: float) -> list[float]:
    """DPO's implicit reward of chosen less that of rejected, a pair (Rafailov et al. 2023, section 4)."""
    return [beta * ((p.chosen - r.chosen) - (p.rejected - r.rejected)) for p, r in zip(policy, reference, strict=True)]


def _paired(base: Sequence[bool], tuned: Sequence[bool]) -> dict[str, Any]:
    base_only = sum(b and not t for b, t in zip(base, tuned, strict=True))
    tuned_only = sum(t and not b for b, t in zip(base, tuned, strict=True))
    return {
        "base_k": sum(base),
        "tuned_k": sum(tuned),
        "base_only": base_only,
        "tuned_only": tuned_only,
        "mcnemar_p": stats.mcnemar(base_only, tuned_only),
    }


def _margin(base: Sequence[PairLogps], tuned: Sequence[PairLogps]) -> dict[str, Any]:
    """How many nats further than base tuned puts the chosen reply above the rejected one, and for how many pairs."""
    return _gain([(t.chosen - t.rejected) - (b.chosen - b.rejected) for b, t in zip(base, tuned, strict=True)])


def _gain(gains: Sequence[float]) -> dict[str, Any]:
    """The mean gain in nats with its interval, how many are above and below nought, and the sign test."""
    positive, negative = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    test = {"positive": positive, "negative": negative, "p": stats.sign_test(positive, negative)}
    return {**asdict(stats.mean_interval(gains)), **test}


def passage_rows(resident: ResidentModel) -> list[TokenPair]:
    """The plain passages as rows whose every token but the first is scored; chosen and rejected alike."""
    texts = json.loads((paths.ASSETS / "passages.json").read_text(encoding="utf-8"))
    ids = [resident.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [TokenPair(row[:1], row[1:], row[1:2]) for row in ids]


def passage_logp(resident: ResidentModel, contender: str, between: Between = lambda done: None) -> float:
    """Mean log-probability a token on text that has nothing to do with any run: what a run may wreck."""
    measure = kept_logps if contender == BASE else pair_logps
    scores = measure(resident, contender, passage_rows(resident), between)
    return math.fsum(s.chosen for s in scores) / sum(s.num_chosen for s in scores)


@torch.no_grad()
def drift(resident: ResidentModel, adapter: str, rows: Sequence[tuple[Conversation, str]]) -> list[float]:
    """Mean KL(base || adapter) a token, in nats and exact over the vocabulary, along each of base's responses.

    Of the first `MAX_DRIFT_ROWS` rows, less those that cannot be scored: their prompt fills the model, or the
    template renders it differently before a reply.
    """
    found: list[float] = []
    for conversation, response in rows[:MAX_DRIFT_ROWS]:
        ids, num_scored = _said(resident, conversation, response)
        if num_scored > 0:
            found.append(_divergence(resident, adapter, ids, num_scored))
    return found


def _said(resident: ResidentModel, conversation: Conversation, response: str) -> tuple[list[int], int]:
    """Token ids of the conversation with its response, and how many at their end are the response's."""
    try:
        prompt, reply = resident.template.pair_ids(conversation, response)
    except (PrefixError, TemplateRefusal):
        return [], 0
    end = resident.tokenizer.eos_token_id
    if end in reply:
        # What the template puts after the end, nobody said.
        reply = reply[: reply.index(end) + 1]
    num_scored = min(len(reply), MAX_DRIFT_TOKENS, resident.max_positions - len(prompt))
    return prompt + reply[: max(num_scored, 0)], num_scored


def _divergence(resident: ResidentModel, adapter: str, ids: Sequence[int], num_scored: int) -> float:
    both = torch.tensor([ids, ids], device=resident.device.kind)
    with resident.speaking([BASE, adapter]):
        # The logits at a position are those of the token after it.
        logits = resident.model(input_ids=both, logits_to_keep=num_scored + 1, use_cache=False).logits[:, :-1]
    total = 0.0
    for chunk in logits.split(DRIFT_CHUNK, dim=1):
        base, tuned = log_softmax(chunk.float(), dim=-1)
        total += float(kl_div(tuned, base, log_target=True, reduction="sum"))
    if not math.isfinite(total):
        raise PlaygroundError(f"'{adapter}' computes numbers that are not finite, so its drift cannot be measured.")
    # Rounding alone can put it below nought.
    return max(total / num_scored, 0.0)


def count_trait(
    resident: ResidentModel,
    adapter: str,
    pairs: Sequence[PreferencePair],
    between: Callable[[float], None],
    is_skipped: Callable[[], bool],
) -> dict[str, Any]:
    """How many greedy responses to the held-out prompts end with exactly one next step: base, tuned, and the test.

    `between` is told the share that is done. The base's figures are kept: they change with base and prompts alone.
    """
    prompts = [pair.prompt for pair in pairs]
    key = paths.logs_dir() / f"trait-base-{resident.fingerprint[:12]}-{_key(pairs)}.json"
    known = paths.read_json(key)
    try:
        tuned = _shows_trait(resident, adapter, prompts, lambda share: between(share / 2), is_skipped)
        base = known or _shows_trait(resident, BASE, prompts, lambda share: between(0.5 + share / 2), is_skipped)
    except Cancelled:
        return {"n": len(prompts), "skipped": True}
    paths.write_json(key, base)
    figures = _paired(base, tuned)
    return {
        "n": len(prompts),
        "base": figures["base_k"],
        "tuned": figures["tuned_k"],
        "base_only": figures["base_only"],
        "tuned_only": figures["tuned_only"],
        "p": figures["mcnemar_p"],
        "skipped": False,
    }


def _key(pairs: Sequence[PreferencePair]) -> str:
    text = json.dumps([[m.content for m in pair.prompt] for pair in pairs])
    return hashlib.sha256(f"{TRAIT_MAX_NEW_TOKENS}{text}".encode()).hexdigest()[:12]


def _shows_trait(
    resident: ResidentModel,
    contender: str,
    prompts: Sequence[Conversation],
    on_share: Callable[[float], None],
    is_skipped: Callable[[], bool],
) -> list[bool]:
    turns = [Turn(contender, prompt) for prompt in prompts]
    responses = answer(resident, turns, GREEDY, is_skipped, lambda done, total: on_share(done / total))
    if is_skipped():
        raise Cancelled("The count was skipped.")
    return [ends_with_one_next_step(response.text) for response in responses]
