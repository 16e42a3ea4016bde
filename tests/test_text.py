from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from codelab.errors import BadRequest
from codelab.text import (
    MAX_DEPTH,
    Input,
    canonical_json,
    decode_lenient,
    load_lenient,
    reject_unstorable,
    scrub,
    scrub_json,
)


def nest(levels: int) -> Any:
    """Make a list in a list, so many levels deep."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a\x00b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("\udfff\x00", "\ufffd\ufffd"),
        ("😀 é \x01 \x7f \uffff \ufeff", "😀 é \x01 \x7f \uffff \ufeff"),
    ],
)
def test_scrub_replaces_what_cannot_be_stored(text: str, kept: str) -> None:
    """Each U+0000 and lone surrogate becomes U+FFFD, nothing else changes, and the rest can be UTF-8."""
    assert scrub(text) == kept
    assert scrub(text).encode().decode() == kept


class TestScrubJson:
    def test_every_string_is_scrubbed(self) -> None:
        """Keys and values at any depth; numbers, booleans and null stay."""
        value = {"a\x00": ["\ud800", {"b": ("x\x00", 1, 1.5, True, None)}]}

        assert scrub_json(value) == {"a\ufffd": ["\ufffd", {"b": ["x\ufffd", 1, 1.5, True, None]}]}

    def test_depth_is_bounded(self) -> None:
        """The deepest value that is allowed passes, one level more is refused."""
        assert scrub_json(nest(MAX_DEPTH)) == nest(MAX_DEPTH)
        with pytest.raises(ValueError, match="nested deeper than"):
            scrub_json(nest(MAX_DEPTH + 1))


class TestRejectUnstorable:
    @pytest.mark.parametrize(
        ("value", "field", "character"),
        [
            ("a\x00", "field", "U+0000"),
            ("\udc00", "field", "U+DC00"),
            ({"a": {"b": ["fine", "\ud83d"]}}, "field.a.b[1]", "U+D83D"),
            ({"a": {"key\x00": 1}}, "field.a", "U+0000"),
            ([["\x00"]], "field[0][0]", "U+0000"),
        ],
    )
    def test_the_place_is_named(self, value: Any, field: str, character: str) -> None:
        """The error says where in the value, and which character."""
        with pytest.raises(BadRequest, match="must not contain") as refused:
            reject_unstorable(value, "field")

        assert refused.value.field == field
        assert refused.value.detail == f"{field}: must not contain {character}"

    def test_what_can_be_stored_passes(self) -> None:
        """Every other value is fine, to the greatest depth."""
        values: tuple[Any, ...] = ("é😀\x01", 1, 1.5, None, True, [], {}, {"a": ["b"]}, nest(MAX_DEPTH))
        for value in values:
            reject_unstorable(value, "field")

    def test_depth_is_bounded(self) -> None:
        """A value that is nested too deeply is refused, and the name of its field is short."""
        with pytest.raises(BadRequest, match="nested deeper than") as refused:
            reject_unstorable({"a": nest(MAX_DEPTH)}, "field")

        assert refused.value.field == "field"


class TestInput:
    class Body(Input):
        """A request body."""

        text: str
        more: dict[str, Any] | None = None

    @pytest.mark.parametrize(
        ("body", "field"), [({"text": "\x00"}, "text"), ({"text": "", "more": {"a": ["\ud800"]}}, "more.a[0]")]
    )
    def test_what_cannot_be_stored_names_its_field(self, body: dict[str, Any], field: str) -> None:
        """A request body refuses it when it is read."""
        with pytest.raises(BadRequest) as refused:
            msgspec.convert(body, self.Body)

        assert refused.value.field == field

    def test_unknown_members_are_ignored(self) -> None:
        """Clients of the reference system send more than is known here."""
        assert msgspec.convert({"text": "x", "unknown": "\x00"}, self.Body).text == "x"


class TestCanonicalJson:
    def test_equal_values_have_equal_bytes(self) -> None:
        """Keys are sorted at every level, there is no white space, and nothing is escaped without need."""
        one = {"b": [1, {"z": None, "a": True}], "a": "é/😀\n"}
        two = {"a": "é/😀\n", "b": [1, {"a": True, "z": None}]}

        assert canonical_json(one) == canonical_json(two) == '{"a":"é/😀\\n","b":[1,{"a":true,"z":null}]}'

    @pytest.mark.parametrize("value", [0, -1, 2**63, 10**30, 0.1, -0.0, 1e300, "", [], {}, None, "\u2028"])
    def test_it_reads_back(self, value: Any) -> None:
        """What is written is read back the same, with either library, and is written the same again."""
        text = canonical_json(value)

        assert json.loads(text) == msgspec.json.decode(text) == value
        assert canonical_json(json.loads(text)) == text


class TestDecodeLenient:
    @pytest.mark.parametrize(
        ("raw", "value"),
        [
            (b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
            (b'"\\ud83d\\ude00"', "😀"),
            (b'"\\ud83d"', "\ufffd"),
            (b'{"\\udc00": "a\\u0000"}', {"\ufffd": "a\ufffd"}),
            (b"\xef\xbb\xbf1", 1),
            (b"1" + b"0" * 30, 10**30),
        ],
    )
    def test_what_a_model_writes_is_read(self, raw: bytes, value: Any) -> None:
        """Also with lone surrogates, which are replaced."""
        assert decode_lenient(raw) == value

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            b"NaN",
            b"[Infinity]",
            b'["\\ud800", -Infinity]',
            b"1e999",
            b'["\\ud800", 1e999]',
            b'"\xff"',
            '"utf-16"'.encode("utf-16"),
            b"[" * 100_000,
            b'["\\ud800",' + b"[" * 100_000,
            b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        ],
        ids=lambda raw: repr(raw[:24]) + str(len(raw)),
    )
    def test_what_is_no_json_is_a_value_error(self, raw: bytes) -> None:
        """No other error comes out, whatever goes in."""
        with pytest.raises(ValueError, match=r"."):
            decode_lenient(raw)

    def test_surrogates_can_be_kept(self) -> None:
        """The caller that names the field needs to see them."""
        assert load_lenient(b'"\\ud800"') == "\ud800"
