"""Recipes: whole runs by name, each a request that the page's form and the command line start alike."""

from dataclasses import dataclass

from core.settings import Method
from core.wire import RunRequest

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
HH_RLHF = "Anthropic/hh-rlhf"


@dataclass(frozen=True)
class Recipe:
    """`note` says frankly what to expect of it."""

    name: str
    title: str
    note: str
    request: RunRequest


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "recommended",
            "Recommended",
            "DPO of Mistral-7B on 500 helpful and 500 harmless rows of HH-RLHF: it learns from both replies of each "
            "pair, and is kept near its base.",
            RunRequest(
                method=Method.DPO,
                dataset=f"{HH_RLHF}:helpful-base@500+{HH_RLHF}:harmless-base@500",
                limit=1000,
                model=MISTRAL,
            ),
        ),
        Recipe(
            "seed",
            "Seed recipe",
            "SFT of Mistral-7B with LoRA in half precision on the first 1,000 rows of HH-RLHF. These are harmlessness "
            "rows only: expect shorter and more evasive answers, perhaps losses on the five prompts.",
            RunRequest(method=Method.SFT, dataset=HH_RLHF, limit=1000, model=MISTRAL),
        ),
    )
}
