"""The pair to vote on: two cards of equal height, five votes by button or key, and Undo.

Shows what a `Scene` lets out; knows neither who is who nor what the votes add up to.
"""

import gradio as gr

from core.compare import Comparison
from core.errors import RequestError
from core.ui import compare_views as views
from core.ui import keys
from core.ui.compare_scene import Scene
from core.ui.compare_worker import ComparisonWorker
from core.ui.parts import Updates

CARD_LINES = 14
HINT = (
    "Keys: <kbd>1</kbd> A is better, <kbd>2</kbd> B is better, <kbd>3</kbd> tie, <kbd>4</kbd> both bad, "
    "<kbd>5</kbd> skip, <kbd>u</kbd> takes the last vote back. They rest while you type."
)


class VotePanel:
    def __init__(self, worker: ComparisonWorker) -> None:
        self.worker = worker

    def build(self) -> None:
        with gr.Column(visible=False, elem_id="vote-panel") as self.panel:
            self.asked = gr.Textbox(
                lines=2, max_lines=6, interactive=False, autoscroll=False, elem_id="vote-prompt", elem_classes="asked",
                label="Prompt",
            )  # fmt: skip
            with gr.Row(equal_height=True):
                self.card_a, self.card_b = self._build_card("A"), self._build_card("B")
            with gr.Row(elem_id="votes"):
                self.buttons = [
                    gr.Button(label, elem_id=f"vote-{number}", min_width=110)
                    for number, label in enumerate(views.VOTE_LABELS, start=1)
                ]
                self.undo_button = gr.Button("Undo", elem_id="vote-undo", min_width=80, variant="secondary")
            pressed = {str(number): f"vote-{number}" for number in range(1, len(views.VOTES) + 1)}
            keys.listener("vote", pressed | {"u": "vote-undo"}, HINT)
            self.voted = gr.Markdown("", elem_id="vote-count", elem_classes="caption")
        # Travels with the click, so that a second one that is on its way cannot meet the next pair.
        self.shown = gr.Textbox(visible="hidden", elem_id="vote-id")
        self.outputs = list(self.view(None))

    def _build_card(self, side: str) -> gr.Textbox:
        return gr.Textbox(
            label=side, lines=CARD_LINES, max_lines=CARD_LINES, interactive=False, autoscroll=False,
            elem_id=f"card-{side.lower()}", elem_classes="response", min_width=320,
        )  # fmt: skip

    def view(self, scene: Scene | None) -> Updates:
        if scene is None or scene.card is None:
            return {
                self.panel: gr.update(visible=False), self.asked: gr.update(label="Prompt", value=""), self.card_a: "",
                self.card_b: "", self.shown: "", self.undo_button: gr.update(interactive=False), self.voted: "",
            }  # fmt: skip
        card, counts = scene.card, scene.counts
        pair = f"Pair {card.number} of {counts.total} · {card.category}"
        return {
            self.panel: gr.update(visible=True), self.asked: gr.update(label=pair, value=card.prompt),
            self.card_a: card.response_a, self.card_b: card.response_b, self.shown: f"{scene.name} {card.item_id}",
            self.undo_button: gr.update(interactive=scene.can_undo),
            self.voted: views.voted_sentence(counts.voted, counts.total, scene.plan.commitment),
        }  # fmt: skip

    def vote(self, label: str, shown: str) -> None:
        """Store the vote that `label`'s button stands for on the pair that was `shown`; said twice it counts once."""
        comparison, item_id = self._shown(shown)
        if label not in views.VOTE_LABELS:
            raise RequestError("There is no such vote. Press one of the five buttons.")
        if not comparison.is_voted(item_id):
            comparison.vote(item_id, views.VOTE_LABELS[label])

    def undo(self, shown: str) -> None:
        """Take the last vote back; a second click on its way meets another pair, and does nothing."""
        comparison, item_id = self._shown(shown)
        if comparison.pending()[:1] == [item_id]:
            comparison.undo()

    def _shown(self, shown: str) -> tuple[Comparison, str]:
        """The comparison and the item that a page had before it."""
        comparison, (name, _, item_id) = self.worker.current(), str(shown).partition(" ")
        if comparison is None or comparison.path.stem != name:
            raise RequestError("The pair on this page belongs to another comparison. Look again, then vote.")
        return comparison, item_id
