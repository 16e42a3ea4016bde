"""The price list, and the operator's own over it."""

from __future__ import annotations

from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from codelab.agent.providers import Price, Prices, Usage, load_prices
from codelab.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path


def test_every_kind_of_token_has_its_own_price() -> None:
    """What was read from and into the cache is not paid for as input again; reasoning is output."""
    price = Price(Decimal(5), Decimal(25), cache_read=Decimal("0.5"), cache_write=Decimal("6.25"))

    assert price.of(Usage(1000, 100, cache_read_tokens=600, cache_write_tokens=200, reasoning_tokens=90)) == (
        200 * 5 + 600 * 0.5 + 200 * 6.25 + 100 * 25
    )


@pytest.mark.parametrize(("tokens", "cost"), [(0, 0), (1, 0), (2, 1), (3, 1), (5, 1), (6, 2)])
def test_half_a_micro_dollar_is_rounded_up_once(tokens: int, cost: int) -> None:
    """At 0.25 micro-USD a token: 0.25 is 0, 0.5 is 1, 1.25 is 1, 1.5 is 2."""
    assert Price(Decimal("0.25"), Decimal("0.05")).of(Usage(tokens, 0)) == cost


def test_a_kind_without_a_price_makes_the_cost_unknown() -> None:
    """Only when there are tokens of it."""
    price = Price(Decimal(1), Decimal(1))

    assert price.of(Usage(10, 10)) == 20
    assert price.of(Usage(10, 10, cache_read_tokens=1)) is None


def test_a_whole_name_goes_before_a_beginning_and_a_longer_before_a_shorter() -> None:
    """An unknown model has no cost, never 0."""
    prices = Prices({name: Price(Decimal(n), Decimal(0)) for n, name in enumerate(("m-*", "m-large*", "m-large"), 1)})
    one = Usage(1, 0)

    assert [prices.cost(name, one) for name in ("m-large", "m-large-2", "m-small", "other")] == [3, 2, 1, None]


def test_the_list_that_ships() -> None:
    """It says its date and source; the offline model is free, and costs of known models are those of the list."""
    text = (files("codelab.agent.providers") / "prices.toml").read_text(encoding="utf-8")
    prices = load_prices()

    assert "\ndate = 2026-" in text
    assert "\nsource = " in text
    assert prices.cost("fake-llm", Usage(10, 10)) == 0
    assert prices.cost("claude-opus-4-5-20251101", Usage(1_000_000, 0)) == 5_000_000
    assert prices.cost("gpt-4o-audio-preview", Usage(1, 1)) is None


def test_the_operators_own_prices_go_before(tmp_path: Path) -> None:
    """They replace an entry, and add others."""
    own = tmp_path / "prices.toml"
    own.write_text('[models]\n"fake-llm" = { input = 2, output = 0 }\n"mine*" = { input = 0.5, output = 0 }\n')
    prices = load_prices(own)

    assert [prices.cost(name, Usage(4, 0)) for name in ("fake-llm", "mine-7b", "gpt-4o")] == [8, 2, 10]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[models]\n'a' = { input = 1 }\n", 2, "output is missing"),
        ("[models]\na = { input = 1, output = -1 }\n", 2, "output must be a number from 0"),
        ("[models]\n\n\n[models.a]\ninput = 'x'\noutput = 1\n", 4, "input must be a number from 0"),
        ("[models]\na = { input = 1, output = nan }\n", 2, "output must be a number from 0"),
        ("[models]\na = { input = true, output = 1 }\n", 2, "input must be a number from 0"),
        ("[models]\na = { input = 1, output = 1, cached = 1 }\n", 2, "unknown member cached"),
        ("[models]\na = 5\n", 2, "input and output are expected"),
        ("[models]\na = {\n", 2, ""),
        ("date = 2026-01-01\nmodel = 1\n", 2, "unknown member model"),
        ("", 1, "a table [models] is expected"),
    ],
)
def test_a_wrong_list_stops_the_start_with_its_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    """One line: the variable, the file, the line in it, and what is wrong."""
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(StartError) as refused:
        load_prices(own)

    said = str(refused.value)
    assert said.startswith(f"AGENT_RUNTIME__PRICES_FILE: {own}")
    assert f"line {line}" in said
    assert problem in said
    assert "\n" not in said


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    """The start says so."""
    with pytest.raises(StartError, match="No such file"):
        load_prices(tmp_path / "none.toml")
