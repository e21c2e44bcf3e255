"""The recipes, each with two buttons: start it at once, or fill in the form and look at it first."""

from typing import Any

import gradio as gr

from core.client import EngineClient
from core.errors import RequestError
from core.recipes import RECIPES, Recipe
from core.ui.notices import shows_errors
from core.ui.plan_views import WONT_FIT
from core.ui.views import size


class RecipeCard:
    """A recipe and its buttons. Gradio's injection wants bound methods, and each button starts its own."""

    def __init__(self, client: EngineClient, recipe: Recipe) -> None:
        self.client = client
        self.recipe = recipe

    def build(self) -> None:
        with gr.Row(elem_classes="recipe"):
            gr.Markdown(f"**{self.recipe.title}**  \n{self.recipe.note}")
            self.start_button = gr.Button("Start", size="sm", scale=0, min_width=70,
                                          elem_id=f"start-{self.recipe.name}")  # fmt: skip
            self.fill_button = gr.Button("Fill in", size="sm", scale=0, min_width=70,
                                         elem_id=f"recipe-{self.recipe.name}")  # fmt: skip

    @shows_errors
    def start(self) -> Any:
        """Start it and lead to the run; refused where it will not fit, before anything is downloaded."""
        plan = self.client.preview(self.recipe.request)
        if plan.fit == WONT_FIT and plan.memory_bytes:
            fix = plan.fix_words or "Choose a smaller base."
            raise RequestError(
                f"'{self.recipe.title}' needs at least {size(plan.memory_bytes)} of memory, and this machine has "
                f"{size(plan.memory_limit)}. Press 'Fill in', then: {fix}"
            )
        self.client.start_run(self.recipe.request)
        return [gr.Tabs(selected="run"), ""]


def cards(client: EngineClient) -> list[RecipeCard]:
    return [RecipeCard(client, recipe) for recipe in RECIPES.values()]
