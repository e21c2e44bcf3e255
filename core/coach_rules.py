"""What the coach's rules see in a run, and what each would change for the next one.

Pure functions over the evidence. One that sees nothing says nothing; one that would change nothing changes nothing.
Every threshold stands here with its reason; the words of the cards are in coach.py.
"""

from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from core import stats
from core.evidence import LEAST_STEPS, Evidence, number
from core.settings import LOSSES, TRAINING, Method, Size, defaults

# Looks before the run's middle come too early to say that nothing moves, and those of its first three quarters to say
# that what has moved will not come to much: a good run may speak as base does at half time.
MIDDLE, LATE = 0.5, 0.75
# Greedy responses of a model that has not moved are base's word for word; one word in fifty may differ by rounding.
STILL_SHARE = 0.02
# At so small a margin the sigmoid loss has come down by half a hundredth: however sure that is, it is as good as zero.
TINY_MARGIN = 0.01
# Greedy decoding leaves base's path for good at the first token that differs, and two texts on one matter share half
# their words: where a third is new, only the ends differ. Runs that took on a new style moved by 0.45 to 0.75.
SILENT_SHARE = 1 / 3
RANKING_ACCURACY = 0.9
# Of few held-out pairs the interval is wide, and what it leaves open is no gap.
SURE_ACCURACY, GAP = 0.95, 0.1
# At a margin of 6 the sigmoid loss is 0.0025: to push rejected replies down further teaches no preference. With the
# SFT term the margin is the chosen replies' rise instead, which is meant.
PUSHED, MOSTLY = 6.0, 2.0
# A twentieth of a reply's log-probability is some 0.1 nats a token, the most that a default may cost on plain text.
SHIFT_SHARE = 0.05
# The rejected reply rises almost as much as the chosen one: what is learnt is what both have in common.
SHARED_RISE = 0.7
# Nats a token: the most that a default may cost on plain text, see DECISIONS.md.
FORGOTTEN = 0.1
# A cut or two is a long pair; one reply in ten without its end is a habit that is learnt.
CUT_SHARE = 0.1
LONGER_SHARE, GROWN = 2 / 3, 1.5
# Norms of good runs differ by a factor of two or three from batch to batch. Under the norm that gradients are clipped
# at nothing is a jump, so that a run which has learnt its pairs may meet a hard one.
JUMP, LEAST_JUMPS, CLIPPED_AT = 5.0, 2, 1.0
# Of how many steps before a step the median is what is usual there: fewest and most.
USUAL_STEPS = (3, 50)
# Norms of good runs are above 0.01 to their end: what is smaller than this is rounding.
NO_GRADIENT, NO_GRADIENT_STEPS = 1e-7, 20
LOWER, HIGHER, MUCH_HIGHER = 1 / 3, 3.0, 10.0


def nothing_moves(evidence: Evidence) -> str:
    looks = evidence.timeline.looks
    is_early = len(looks) < 2 or evidence.share_done < MIDDLE
    if is_early or max(look.moved for look in looks) > STILL_SHARE or not _is_flat(evidence):
        return ""
    figure = "reward margin is as good as zero" if evidence.is_dpo else "loss has not fallen beyond its noise"
    return f"At all {len(looks)} looks the responses to the pinned prompts were base's own, and the {figure}."


def _is_flat(evidence: Evidence) -> bool:
    """Whether what is trained has stayed where it was, noise apart; False where too little is known."""
    if evidence.is_dpo:
        margin = stats.mean_interval(evidence.recent("rewards/margins"))
        return (
            margin.low is not None
            and margin.high is not None
            and margin.low < TINY_MARGIN
            and margin.high > -TINY_MARGIN
        )
    losses = evidence.since_start("loss")
    half = len(losses) // 2
    if half < LEAST_STEPS:
        return False
    before, after = stats.mean_interval(losses[:half]), stats.mean_interval(losses[half:])
    return before.low is not None and after.high is not None and after.high >= before.low


def forgets(evidence: Evidence) -> str:
    base, tuned = number(evidence.result, "passage_logp_base"), number(evidence.result, "passage_logp_tuned")
    if base is None or tuned is None or base - tuned < FORGOTTEN:
        return ""
    return (
        f"On plain passages that have nothing to do with the run, the log-probability of a token has come down by "
        f"{base - tuned:.2f} nats, from {base:.2f} to {tuned:.2f}."
    )


def too_sure(evidence: Evidence) -> str:
    accuracy, margin = evidence.mean("rewards/accuracies"), evidence.mean("rewards/margins")
    if accuracy is None or margin is None or accuracy < SURE_ACCURACY:
        return ""
    own = f"Of its own pairs the run ranks {accuracy:.0%} rightly, with a reward margin of {margin:.1f}"
    if evidence.held_out:
        share, pairs = evidence.held_out
        if stats.wilson(share * pairs, pairs)[1] < accuracy - GAP:
            return f"{own}; of {pairs} held-out pairs {share:.0%}."
    chosen, rejected = evidence.mean("rewards/chosen"), evidence.mean("rewards/rejected")
    if chosen is None or rejected is None or rejected > -max(PUSHED, MOSTLY * chosen):
        return ""
    return f"{own}, most of it by pushing the rejected replies down, to a reward of {rejected:.1f}."


def both_fall(evidence: Evidence) -> str:
    chosen, rejected = _shift(evidence, "chosen"), _shift(evidence, "rejected")
    if chosen is None or rejected is None or chosen.share > -SHIFT_SHARE or rejected.nats >= 0:
        return ""
    return (
        f"The log-probability of the chosen replies is {-chosen.nats:.0f} nats lower than at the start "
        f"({-chosen.share:.0%}), and that of the rejected ones {-rejected.nats:.0f} nats ({-rejected.share:.0%})."
    )


def margin_in_noise(evidence: Evidence) -> str:
    margin = stats.mean_interval(evidence.recent("rewards/margins"))
    if margin.mean is None or margin.low is None or margin.low >= TINY_MARGIN or nothing_moves(evidence):
        return ""
    return (
        f"Over the last {margin.n} steps the reward margin is {margin.mean:+.3f} on average, and its 95 % interval "
        f"reaches from {margin.low:+.3f} to {margin.high:+.3f}."
    )


def learns_form(evidence: Evidence) -> str:
    chosen, rejected = _shift(evidence, "chosen"), _shift(evidence, "rejected")
    if chosen is None or rejected is None or chosen.share < SHIFT_SHARE or rejected.nats < SHARED_RISE * chosen.nats:
        return ""
    return (
        f"The log-probability of the chosen replies has risen by {chosen.nats:.0f} nats, and that of the rejected ones "
        f"by {rejected.nats:.0f}."
    )


def gradient_spikes(evidence: Evidence) -> str:
    norms, (fewest, most) = evidence.every("grad_norm"), USUAL_STEPS
    usual = {step: max(median(norms[max(0, step - most) : step]), CLIPPED_AT) for step in range(fewest, len(norms))}
    jumps = [norms[step] for step in usual if norms[step] > JUMP * usual[step]]
    if len(norms) < LEAST_STEPS or len(jumps) < LEAST_JUMPS:
        return ""
    return (
        f"At {len(jumps)} of {len(norms)} steps the gradient's norm was over {JUMP:.0f} times what had been usual, and "
        f"reached {max(jumps):.1f}."
    )


def no_gradient(evidence: Evidence) -> str:
    norms = evidence.every("grad_norm")[-NO_GRADIENT_STEPS:]
    if len(norms) < NO_GRADIENT_STEPS or max(norms) >= NO_GRADIENT:
        return ""
    return f"For {len(norms)} steps the gradient's norm has been under {NO_GRADIENT:.0e}: there is nothing to follow."


def ranks_not_speaks(evidence: Evidence) -> str:
    accuracy, looks = evidence.mean("rewards/accuracies"), evidence.timeline.looks
    if accuracy is None or accuracy < RANKING_ACCURACY or not looks or looks[-1].step < LATE * evidence.steps:
        return ""
    if looks[-1].moved > SILENT_SHARE:
        return ""
    return (
        f"It ranks {accuracy:.0%} of the pairs rightly, but only {looks[-1].moved:.0%} of the words of its responses "
        "to the pinned prompts are not base's."
    )


def grows_long(evidence: Evidence) -> str:
    longer, looks = number(evidence.facts, "chosen_longer"), evidence.timeline.looks
    if not evidence.is_dpo or longer is None or longer < LONGER_SHARE or len(looks) < 2:
        return ""
    before, now = _words(evidence.timeline.base), _words(looks[-1].responses)
    if not before or now < GROWN * before:
        return ""
    return (
        f"In {longer:.0%} of the pairs the chosen reply is the longer one, and the responses to the pinned prompts "
        f"have grown from {before:.0f} words to {now:.0f}."
    )


def replies_cut(evidence: Evidence) -> str:
    cut, replies = number(evidence.facts, "cut_replies"), number(evidence.facts, "replies")
    length = number(evidence.settings, "max_length")
    if cut is None or not replies or length is None or cut < CUT_SHARE * replies:
        return ""
    return f"{cut:.0f} of {replies:.0f} replies are cut: with their prompt they are over {length:.0f} tokens."


@dataclass(frozen=True)
class _Shift:
    """How far a reply's log-probability has come from its reference: in nats, and as a share of what it was there."""

    nats: float
    share: float


def _shift(evidence: Evidence, side: str) -> _Shift | None:
    """From the rewards, which are beta times that shift for each reply itself: batches of long replies do not show."""
    reward, logp = evidence.mean(f"rewards/{side}"), evidence.mean(f"logps/{side}")
    beta = number(evidence.settings, "beta")
    if reward is None or logp is None or not beta or logp >= reward / beta:
        return None
    nats = reward / beta
    return _Shift(nats, nats / (nats - logp))


def _words(responses: tuple[str, ...]) -> float:
    return fmean(len(response.split()) for response in responses) if responses else 0.0


# What the next run may change


def _rate(evidence: Evidence, factor: float, least: float = 0.0) -> dict[str, Any]:
    rate, setting = number(evidence.settings, "learning_rate"), TRAINING["learning_rate"]
    if rate is None:
        return {}
    changed = float(f"{min(max(rate * factor, least, setting.low), setting.high):.1g}")
    return {"learning_rate": changed} if changed != rate else {}


def lower_rate(evidence: Evidence) -> dict[str, Any]:
    return _rate(evidence, LOWER)


def higher_rate(evidence: Evidence) -> dict[str, Any]:
    return _rate(evidence, HIGHER)


def usual_rate(evidence: Evidence) -> dict[str, Any]:
    """Ten times the rate, and no less than the method's own on a large base, the lowest of the usual ones."""
    method = Method.DPO if evidence.is_dpo else Method.SFT
    return _rate(evidence, MUCH_HIGHER, defaults(method, Size.LARGE)["learning_rate"])


def one_pass(evidence: Evidence) -> dict[str, Any]:
    passes = number(evidence.settings, "epochs")
    return {"epochs": 1} if passes and passes > 1 else lower_rate(evidence)


def steadier(evidence: Evidence) -> dict[str, Any]:
    is_sudden = (number(evidence.settings, "warmup") or 0.0) < TRAINING["warmup"].default
    return lower_rate(evidence) | ({"warmup": TRAINING["warmup"].default} if is_sudden else {})


def sft_term_or_lower_rate(evidence: Evidence) -> dict[str, Any]:
    return _sft_term(evidence) or lower_rate(evidence)


def sft_term_or_sft_first(evidence: Evidence) -> dict[str, Any]:
    return _sft_term(evidence) or sft_first(evidence)


def _sft_term(evidence: Evidence) -> dict[str, Any]:
    with_term = f"{evidence.settings.get('loss')}+sft"
    return {"loss": with_term} if with_term in LOSSES else {}


def nothing(_: Evidence) -> dict[str, Any]:
    return {}


def sft_first(_: Evidence) -> dict[str, Any]:
    return {"method": str(Method.SFT_DPO)}


def by_token(evidence: Evidence) -> dict[str, Any]:
    loss = str(evidence.settings.get("loss"))
    changed = "sigmoid_norm" + ("+sft" if loss.endswith("+sft") else "")
    return {"loss": changed} if changed != loss else {}


def longer_length(evidence: Evidence) -> dict[str, Any]:
    length, setting = number(evidence.settings, "max_length"), TRAINING["max_length"]
    return {"max_length": int(min(2 * length, setting.high))} if length and length < setting.high else {}
