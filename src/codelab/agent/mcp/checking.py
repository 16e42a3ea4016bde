"""Checking arguments against a schema that a stranger wrote, which may be made to keep a validator busy for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from codelab.agent.tools import InvalidArguments

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("check_foreign",)

#: References that are followed for one call.
MAX_REFERENCES = 2_000
#: Members that hold schemas by name, so that their keys are no keywords.
_NAMED = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
#: Members that hold values.
_VALUES = frozenset({"const", "enum", "default", "examples", "required"})
#: Regular expressions may take for ever, and dynamic references lead anywhere; the server checks these itself.
_LEFT_OUT = frozenset({"pattern", "patternProperties", "$dynamicRef", "$recursiveRef", "$schema", "$id", "format"})


def check_foreign(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """Check arguments against a server's schema, but for what could cost without bound; return them.

    Nothing is fetched: a reference leads into the same schema or makes the call invalid.

    Raises:
        InvalidArguments: they do not fit, or the schema cannot be used.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend
    from referencing import Registry

    left = MAX_REFERENCES
    follow: Any = Draft202012Validator.VALIDATORS["$ref"]

    def reference(validator: Any, ref: Any, instance: Any, part: Any) -> Iterator[Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise InvalidArguments("The schema of this tool takes too long to be checked.")
        return iter(follow(validator, ref, instance, part) or ())

    checker: Any = cast("Any", extend)(Draft202012Validator, {"$ref": reference})
    try:
        errors = checker(_clean(schema), registry=Registry()).iter_errors(value)
        error = next(iter(errors), None)
    except InvalidArguments:
        raise
    except Exception:  # noqa: BLE001 - a stranger's schema may be anything, and make the validator raise anything
        raise InvalidArguments("The schema of this tool cannot be used.") from None
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path)
        raise InvalidArguments(f"{place}: {error.message[:500]}" if place else error.message[:500])
    return value


def _clean(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_clean(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned: dict[str, Any] = {}
    for name, part in schema.items():
        if name in _NAMED and isinstance(part, dict):
            cleaned[name] = {key: _clean(value) for key, value in part.items()}
        elif name in _VALUES:
            cleaned[name] = part
        elif name not in _LEFT_OUT:
            cleaned[name] = _clean(part)
    if "patternProperties" in schema:  # what they would take is not known without them
        cleaned.pop("additionalProperties", None)
        cleaned.pop("unevaluatedProperties", None)
    return cleaned
