"""What a run's rows say to somebody who has never trained one: what was seen, what it means, what to do.

The rules in one table, each with its words and its source. Knows nothing of torch, files or the page. How often they
are right on recorded runs is what tests/bench/coach_table.py prints.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core import coach_rules as rules
from core.evidence import Card, Evidence, evidence_of

__all__ = ["RULES", "Card", "Evidence", "Rule", "advise", "evidence_of"]

DPO_PAPER = "Rafailov et al., 'Direct Preference Optimization' (2023)"


@dataclass(frozen=True)
class Rule:
    """`see` tells in a sentence what it saw, and is empty where it saw nothing; `change` is for the next run."""

    name: str
    title: str
    see: Callable[[Evidence], str]
    means: str
    do: str
    change: Callable[[Evidence], dict[str, Any]]
    source: str

    def card(self, evidence: Evidence) -> Card | None:
        seen = self.see(evidence)
        if not seen:
            return None
        return Card(self.name, self.title, seen, self.means, self.do, self.change(evidence), self.source)


def advise(evidence: Evidence) -> list[Card]:
    """The cards for a run as it stands, the gravest first; none for a healthy run."""
    return [card for rule in RULES if (card := rule.card(evidence))]


# The gravest first: a page shows the first few alone.
RULES = (
    Rule(
        "no_gradient",
        "The pairs teach nothing",
        rules.no_gradient,
        "Nothing in these pairs pulls the adapter anywhere: chosen and rejected replies are alike, or the loss is as "
        "low as it can be.",
        "Stop, and read some of the pairs: do the replies differ? Take other pairs where they do not.",
        rules.nothing,
        f"{DPO_PAPER}: the gradient is the difference between the two replies, and fades as the margin grows",
    ),
    Rule(
        "nothing_moves",
        "Nothing moves",
        rules.nothing_moves,
        "The adapter is still next to nothing, so the policy is base.",
        "Raise the learning rate: an adapter wants about ten times what a whole model does.",
        rules.usual_rate,
        "TRL documentation, DPO trainer and 'LoRA Without Regret'; Schulman et al. (2025)",
    ),
    Rule(
        "forgets",
        "It loses what base could do",
        rules.forgets,
        "The run has changed more than its data asks for: the model is worse at ordinary text, and what it says may "
        "be broken.",
        "Lower the learning rate, or go through the data less often.",
        rules.lower_rate,
        "Measured on the starter model: good runs lose nothing here. Biderman et al., 'LoRA Learns Less and Forgets "
        "Less' (2024): the more is learnt, the more is forgotten",
    ),
    Rule(
        "too_sure",
        "Too sure, too soon",
        rules.too_sure,
        "It knows its own pairs by heart and has little left to learn from them. On other pairs that is no help, and "
        "every further step wears off what base could do.",
        "Go through the data once, at a lower learning rate, or train on more pairs.",
        rules.one_pass,
        "Azar et al., 'A General Theoretical Paradigm to Understand Learning from Human Preferences' (2023): nothing "
        "holds DPO back where each pair has one answer alone; Tunstall et al., 'Zephyr' (2023): it overfits quickly",
    ),
    Rule(
        "both_fall",
        "Both replies become less likely",
        rules.both_fall,
        "The loss asks only that the chosen reply stays ahead of the rejected one. Here both sink, and what the model "
        "says instead can be neither of them.",
        "Add the SFT term, which holds the chosen reply up. Where it is on already, lower the learning rate.",
        rules.sft_term_or_lower_rate,
        "Razin et al., 'Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization' (2024); "
        "Pal et al., 'Smaug' (2024); the SFT term: Pang et al., 'Iterative Reasoning Preference Optimization' (2024)",
    ),
    Rule(
        "margin_in_noise",
        "No margin yet",
        rules.margin_in_noise,
        "The run does not prefer the chosen replies yet: a margin so small or so uncertain is none.",
        "Read some of the pairs: would you have chosen the same reply? If so, raise the learning rate, or give it "
        "more pairs or one more pass.",
        rules.higher_rate,
        f"{DPO_PAPER}: the margin is what the loss widens; TRL documentation, logged metrics",
    ),
    Rule(
        "learns_form",
        "It learns the form, not the preference",
        rules.learns_form,
        "Both replies become likelier almost alike. What is learnt is what they share, such as topic and tone, and "
        "not what sets them apart.",
        "Run SFT first: it learns the form, and DPO after it the difference. If the margin stays small all the same, "
        "raise the learning rate.",
        rules.sft_first,
        "Hong et al., 'ORPO' (2024): SFT on the chosen replies makes rejected ones likelier as well; "
        f"{DPO_PAPER}: SFT comes first",
    ),
    Rule(
        "gradient_spikes",
        "The gradient jumps",
        rules.gradient_spikes,
        "Single batches throw the adapter about. Such a step is cut to a bearable length, but its direction is that "
        "of one batch.",
        "Lower the learning rate and let it rise slowly, or put more pairs into a step.",
        rules.steadier,
        "Pascanu et al., 'On the Difficulty of Training Recurrent Neural Networks' (2013), on clipping gradients",
    ),
    Rule(
        "ranks_not_speaks",
        "It ranks but does not speak",
        rules.ranks_not_speaks,
        "It tells the better reply where it sees both, and says by itself what base says. Reward accuracy does not "
        "show what a model says.",
        "Add the SFT term to the loss, or run SFT first.",
        rules.sft_term_or_sft_first,
        "Measured on the starter model. Chen et al., 'Preference Learning Algorithms Do Not Learn Preference "
        f"Rankings' (2024): ranking and speaking come apart; {DPO_PAPER}: SFT comes first",
    ),
    Rule(
        "replies_cut",
        "Replies are cut off",
        rules.replies_cut,
        "What is behind the cut is never learnt, the end of a reply least of all.",
        "Raise max length, as far as memory allows, or leave the long pairs out.",
        rules.longer_length,
        "TRL documentation, 'Reducing Memory Usage': where max length is too small, much is discarded",
    ),
    Rule(
        "grows_long",
        "It learns to be long",
        rules.grows_long,
        "Length is the easiest difference between these replies, so the model may be learning that alone.",
        "Add pairs whose better reply is the shorter one, or use the loss that counts by token, sigmoid_norm.",
        rules.by_token,
        "Park et al., 'Disentangling Length from Quality in Direct Preference Optimization' (2024); by token: Lambert "
        "et al., 'Tülu 3' (2024)",
    ),
)
