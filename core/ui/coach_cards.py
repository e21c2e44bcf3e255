"""The coach's advice as cards: what was seen, what it means, what to do, and a button that does it in the next run."""

from collections.abc import Sequence
from itertools import zip_longest

import gradio as gr

from core.coach import Card
from core.ui.parts import Updates
from core.ui.views import as_text

# More at once is not read; the gravest come first.
MAX_CARDS = 4
APPLY = "Use this for the next run"


class CoachCards:
    """`buttons` belong to the cards in their order; `advised` holds the rules of those that are shown."""

    def build(self) -> None:
        with gr.Row(visible=False, elem_id="coach") as self.row:
            self.slots = [self._build_slot(number) for number in range(MAX_CARDS)]
        self.buttons = [button for *_, button in self.slots]
        self.advised = gr.State([])

    def _build_slot(self, number: int) -> tuple[gr.Column, gr.Markdown, gr.Button]:
        with gr.Column(visible=False, elem_classes="card coach", min_width=270) as slot:
            words = gr.Markdown("", elem_id=f"coach-{number}")
            button = gr.Button(APPLY, size="sm", visible=False, elem_id=f"apply-{number}")
        return slot, words, button

    def view(self, cards: Sequence[Card]) -> Updates:
        shown = cards[:MAX_CARDS]
        updates: Updates = {self.row: gr.update(visible=bool(shown)), self.advised: [card.rule for card in shown]}
        for (slot, words, button), card in zip_longest(self.slots, shown):
            updates |= {
                slot: gr.update(visible=card is not None), words: card_words(card) if card else "",
                button: gr.update(visible=bool(card and card.change)),
            }  # fmt: skip
        return updates


def card_words(card: Card) -> str:
    """The card in Markdown; nothing of its text is alive."""
    said = [f"#### {as_text(card.title)}", as_text(card.seen), as_text(card.means)]
    said += [f"**What to do:** {as_text(card.do)}"] if card.do else []
    said += [f"*Source: {as_text(card.source)}*"] if card.source else []
    return "\n\n".join(said)
