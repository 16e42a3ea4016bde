"""What model calls cost: a list that ships with codelab, and the operator's own over it."""

from __future__ import annotations

import re
import tomllib
from decimal import ROUND_HALF_UP, Decimal
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.agent.providers.base import Usage

__all__ = ("Price", "Prices", "load_prices")

#: What a price may be at most, in USD per million tokens: more is a slip of the pen.
_MOST = 1_000_000
#: Micro-USD of one call at most, so that sums of hostile counts stay within 64 bits.
_MOST_COST = 10**15


class Price(msgspec.Struct, frozen=True, omit_defaults=True):
    """The prices of one model, in USD per million tokens, which is micro-USD per token; None where unknown."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None

    def of(self, usage: Usage) -> int | None:
        """Return what a call cost in whole micro-USD, half of one rounded up; None where a price is unknown."""
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        cost = plain * self.input + usage.output_tokens * self.output
        for tokens, price in (
            (usage.cache_read_tokens, self.cache_read),
            (usage.cache_write_tokens, self.cache_write),
        ):
            if tokens and price is None:
                return None
            cost += tokens * (price or 0)
        return min(int(cost.to_integral_value(ROUND_HALF_UP)), _MOST_COST)


class Prices:
    """Find the price of a model: its whole name first, then the longest beginning of it."""

    def __init__(self, prices: dict[str, Price]) -> None:
        self._whole = {name: price for name, price in prices.items() if not name.endswith("*")}
        begins = [(name[:-1], price) for name, price in prices.items() if name.endswith("*")]
        self._begins = sorted(begins, key=lambda each: len(each[0]), reverse=True)

    def find(self, model: str) -> Price | None:
        """Return the price of a model, None for an unknown one."""
        return self._whole.get(model) or next((price for begin, price in self._begins if model.startswith(begin)), None)

    def cost(self, model: str, usage: Usage) -> int | None:
        """Return what a call cost in whole micro-USD; None for an unknown model, never 0."""
        price = self.find(model)
        return None if price is None else price.of(usage)


def load_prices(own: Path | None = None) -> Prices:
    """Read the list that ships with codelab, and the operator's own.

    Raises:
        StartError: the operator's list cannot be read; the line says where.
    """
    shipped = _read((files(__package__) / "prices.toml").read_text(encoding="utf-8"), "prices.toml")
    if own is None:
        return Prices(shipped)
    where = f"AGENT_RUNTIME__PRICES_FILE: {own}"
    try:
        text = own.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"{where}: {reason}") from None
    return Prices(shipped | _read(text, where))


def _read(text: str, where: str) -> dict[str, Price]:
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise StartError(f"{where}: {error}") from None
    models = document.get("models")
    if unknown := sorted(set(document) - {"date", "source", "models"}):
        raise StartError(f"{where}, line {_line_of(text, unknown[0])}: unknown member {unknown[0]}")
    if not isinstance(models, dict):
        raise StartError(f"{where}, line 1: a table [models] is expected")
    prices = {}
    for name, entry in models.items():
        try:
            prices[name] = _read_entry(entry)
        except ValueError as error:
            raise StartError(f"{where}, line {_line_of(text, name)}: {name}: {error}") from None
    return prices


def _read_entry(entry: Any) -> Price:
    if not isinstance(entry, dict):
        raise ValueError("input and output are expected")  # noqa: TRY004 - told with its line, like any wrong value
    if unknown := sorted(set(entry) - set(Price.__struct_fields__)):
        raise ValueError(f"unknown member {unknown[0]}")
    for member in ("input", "output"):
        if member not in entry:
            raise ValueError(f"{member} is missing")
    for member, price in entry.items():
        a_number = isinstance(price, int | Decimal) and not isinstance(price, bool)
        if not a_number or not Decimal(price).is_finite() or not 0 <= price <= _MOST:
            raise ValueError(f"{member} must be a number from 0, in USD per million tokens")
    return Price(**{member: Decimal(price) for member, price in entry.items()})


def _line_of(text: str, name: str) -> int:
    """Find the line that a name is first said in, as a key or in the name of a table; the parser does not tell."""
    key = re.compile(rf"""^\s*(?:\[models\.)?["']?{re.escape(name)}["']?\s*[\].=]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if key.match(line)), 1)
