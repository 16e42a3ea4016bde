"""How many bytes a token has: guessed by the model's name, then learned."""

from __future__ import annotations

import pytest

from codelab.agent.turns.tokens import BYTES_PER_TOKEN, TokenRatios


@pytest.mark.parametrize(
    ("model", "ratio"),
    [("fake-llm", 4.0), ("openai/gpt-9", 3.5), ("anthropic/Claude-next", 3.0), ("somebody/else", BYTES_PER_TOKEN)],
)
def test_a_model_begins_with_what_its_family_has(model: str, ratio: float) -> None:
    """The part of a name before the last slash is the seller's."""
    assert TokenRatios().of(model) == ratio


def test_what_a_provider_counts_is_approached_and_kept_by_model() -> None:
    """Many counts lead to the true ratio; other models keep theirs."""
    ratios = TokenRatios()
    for _ in range(30):
        ratios.learn("a", 8_000, 4_000)
        ratios.learn("b", 20_000, 4_000)

    assert ratios.of("a") == pytest.approx(2.0, abs=0.01)
    assert ratios.of("b") == pytest.approx(5.0, abs=0.01)
    assert ratios.of("c") == BYTES_PER_TOKEN


def test_less_room_is_believed_sooner_than_more() -> None:
    """One count moves the ratio most of the way down, and a little way up."""
    ratios = TokenRatios()
    ratios.learn("down", 8_000, 4_000)
    ratios.learn("up", 16_000, 4_000)

    assert BYTES_PER_TOKEN - ratios.of("down") > 0.5
    assert 0 < ratios.of("up") - BYTES_PER_TOKEN < 0.25


def test_nonsense_does_no_harm() -> None:
    """Counts that cannot be are bounded, and those of tiny requests are passed over."""
    ratios = TokenRatios()
    for _ in range(50):
        ratios.learn("huge", 10**9, 1_000)
        ratios.learn("none", 10, 10**9)
        ratios.learn("tiny", 10**6, 7)

    assert ratios.of("huge") == pytest.approx(6.0, abs=0.01)
    assert ratios.of("none") == pytest.approx(1.0, abs=0.01)
    assert ratios.of("tiny") == BYTES_PER_TOKEN
