"""The coach's advice as cards: what was seen, what it means, what to do, and a button that does it in the next run."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from core.coach import Card
from core.ui.parts import Part
from core.ui.views import as_text

# More at once is not read; the gravest come first.
MAX_CARDS = 4
APPLY = "Use this for the next run"


class CoachCards:
    """`buttons` belong to the cards in their order; `advised` holds the rules of those that are shown."""

    def build(self) -> None:
        self.buttons: list[gr.Button] = []
        slots: list[Part] = []
        with gr.Row(visible=False, elem_id="coach") as self.row:
            for number in range(MAX_CARDS):
                slots += self._build_slot(number)
        self.advised = gr.State([])
        self.parts = [
            Part(self.row, lambda value: gr.update(visible=value)),
            Part(self.advised, lambda value: value),
            *slots,
        ]

    def _build_slot(self, number: int) -> list[Part]:
        with gr.Column(visible=False, elem_classes="card coach", min_width=270) as slot:
            words = gr.Markdown("", elem_id=f"coach-{number}")
            button = gr.Button(APPLY, size="sm", visible=False, elem_id=f"apply-{number}")
        self.buttons.append(button)
        return [
            Part(slot, lambda value: gr.update(visible=value)),
            Part(words, lambda value: value),
            Part(button, lambda value: gr.update(visible=value)),
        ]

    def values(self, cards: Sequence[Card]) -> list[Any]:
        shown = cards[:MAX_CARDS]
        slots = [value for card in shown for value in (True, card_words(card), bool(card.change))]
        empty = [False, "", False] * (MAX_CARDS - len(shown))
        return [bool(shown), [card.rule for card in shown], *slots, *empty]


def card_words(card: Card) -> str:
    """The card in Markdown; nothing of its text is alive."""
    said = [f"#### {as_text(card.title)}", as_text(card.seen), as_text(card.means)]
    said += [f"**What to do:** {as_text(card.do)}"] if card.do else []
    said += [f"*Source: {as_text(card.source)}*"] if card.source else []
    return "\n\n".join(said)
