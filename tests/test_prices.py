"""What judging will come to, said before it begins."""

import json
from pathlib import Path

import pytest

from core import prices
from core.errors import RequestError
from core.judge import DEFAULT_MODEL
from core.prices import cost


def test_a_price_on_record_is_named_with_its_date() -> None:
    assert cost("gemini-3-flash", 60) == (
        "60 judge calls, about 130,000 tokens, about $0.19 at the prices of 2026-11-23 "
        "(500 tokens of thinking a call are allowed for)"
    )
    # 700 + 60 + 500 tokens a call at half a dollar a million, and 350 + 500 at three.
    assert "about 210,000,000 tokens, about $318.00 at" in cost("gemini-3-flash", 100_000)


def test_where_no_price_is_on_record_it_says_so_and_reckons_at_the_dearest() -> None:
    assert cost(DEFAULT_MODEL, 60) == (
        "60 judge calls, about 130,000 tokens; no price is on record for gemini-3.8-flash: at gemini-3.5-flash's of "
        "2026-11-23 about $0.57 (500 tokens of thinking a call are allowed for)"
    )


def test_longer_responses_cost_more_and_few_calls_next_to_nothing() -> None:
    assert "about 2,600,000 tokens" in cost("gemini-3-flash", 1000, response_tokens=500)
    assert cost("gemini-3.1-flash-lite", 1) == (
        "1 judge call, about 2,100 tokens, under $0.01 at the prices of 2026-11-23 "
        "(500 tokens of thinking a call are allowed for)"
    )


def test_the_table_is_anyones_to_correct(tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    content = json.loads(prices.TABLE.read_text()) | {"date": "2027-01-02"}
    content["per_million_tokens"] = {DEFAULT_MODEL: {"input": 1, "output": 1}}
    table.write_text(json.dumps(content))
    assert cost(DEFAULT_MODEL, 100, table=table) == (
        "100 judge calls, about 210,000 tokens, about $0.21 at the prices of 2027-01-02 "
        "(500 tokens of thinking a call are allowed for)"
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"date": "x", "per_million_tokens": {}}'])
def test_a_spoilt_table_is_a_sentence(tmp_path: Path, text: str) -> None:
    table = tmp_path / "prices.json"
    table.write_text(text)
    with pytest.raises(RequestError, match="cannot be used as a table of prices"):
        cost(DEFAULT_MODEL, 1, table=table)
