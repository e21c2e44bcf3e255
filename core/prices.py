"""What a comparison's judge calls come to, in tokens and dollars, before any is made.

Estimates by a dated table that anyone may correct; knows nothing of what is judged or of what was really used.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from core.errors import RequestError
from core.paths import ASSETS

TABLE = ASSETS / "prices.json"
# Of a call, in tokens: rules, criteria and form; a short prompt; one response; the filled-in form; and thinking, which
# is billed as output and can only be allowed for.
RULES_TOKENS, PROMPT_TOKENS, RESPONSE_TOKENS, VERDICT_TOKENS, THINKING_TOKENS = 700, 60, 250, 350, 500


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens."""

    input: float
    output: float


def cost(model: str, num_calls: int, response_tokens: int = RESPONSE_TOKENS, table: Path = TABLE) -> str:
    """What so many calls come to, in words; RequestError where the table of prices was spoilt.

    A model without a price is reckoned at the dearest on record, and the words say so.
    """
    date, prices = read_prices(table)
    tokens_in = num_calls * (RULES_TOKENS + PROMPT_TOKENS + 2 * response_tokens)
    tokens_out = num_calls * (VERDICT_TOKENS + THINKING_TOKENS)
    dearest = max(prices, key=lambda name: prices[name].output)
    price = prices.get(model, prices[dearest])
    dollars = _money((tokens_in * price.input + tokens_out * price.output) / 1e6)
    known = f", {dollars} at the prices of {date}"
    unknown = f"; no price is on record for {model}: at {dearest}'s of {date} {dollars}"
    return (
        f"{num_calls:,} judge call{'' if num_calls == 1 else 's'}, about {_rounded(tokens_in + tokens_out):,} tokens"
        f"{known if model in prices else unknown} ({THINKING_TOKENS} tokens of thinking a call are allowed for)"
    )


def read_prices(table: Path) -> tuple[str, dict[str, Price]]:
    """The table's date and its models; RequestError where it cannot be used."""
    try:
        content = json.loads(table.read_text(encoding="utf-8"))
        models = {
            name: Price(float(price["input"]), float(price["output"]))
            for name, price in content["per_million_tokens"].items()
        }
        if not models:
            raise ValueError("no price")
        return str(content["date"]), models
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RequestError(
            f"{table} cannot be used as a table of prices. It needs a date and, for each model, the dollars for a "
            "million tokens of input and output."
        ) from None


def _rounded(tokens: int) -> int:
    """To two figures: more would pretend to know."""
    return int(float(f"{tokens:.2g}"))


def _money(dollars: float) -> str:
    return f"about ${dollars:.2f}" if dollars >= 0.01 else "under $0.01"
