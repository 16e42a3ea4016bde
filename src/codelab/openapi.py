"""What the OpenAPI document says that handlers do not tell by their signatures: how they refuse, forms, streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import (
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)

from codelab.problems import PROBLEM_JSON

__all__ = ("EVENT_STREAM", "FORM", "JSON", "TEXT", "Documented", "takes_body", "takes_query", "tells_events", "texts")

EVENT_STREAM, FORM, JSON = "text/event-stream", "application/x-www-form-urlencoded", "application/json"
TEXT = Schema(type=OpenAPIType.STRING)
_PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "Why a request is refused (RFC 9457). `code` is for programs and stays stable.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string", "description": "For people."},
        "field": {"type": "string", "description": "The part of the request that is wrong."},
        "request_id": {"type": "string"},
    },
}
_REFUSAL = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_PAGE = {"text/html": {"schema": {"type": "string"}}}
_MALFORMED = {"400": "The request is malformed; `field` names the part"}
_OF_TOKENS = {
    "401": "The access token is missing or does not hold",
    "403": "The token lacks a scope, or the caller may not do this",
}
_OF_PATHS = {"404": "It does not exist, or not for this caller"}
_OF_CHANGES = {"409": "It contradicts the present state; `code` says how"}
_OF_BODIES = {"404": "Something that the body names does not exist", "413": "The body is over the size that is taken"}
_OF_ALL = {"503": "A part that is needed does not answer now; `Retry-After` says when to try again"}


@dataclass
class Documented(OpenAPIConfig):
    """Make a document in which each operation says how it refuses.

    Refusals of a shape of their own, as RFC 6749 and RFC 7591 have them, stay as their handlers describe them.
    """

    def to_openapi_schema(self) -> OpenAPI:
        """Return the document, without its paths yet."""
        return _Document(**vars(super().to_openapi_schema()))


@dataclass
class _Document(OpenAPI):
    def to_schema(self) -> dict[str, Any]:
        written = super().to_schema()
        written["components"]["schemas"]["Problem"] = _PROBLEM
        for path, item in written["paths"].items():
            for method, operation in item.items():
                answers = operation["responses"]
                if answers.get("200", {}).get("content", {}).keys() >= _PAGE.keys():
                    answers["303"] = {"description": "The browser is sent on"}
                    answers["default"] = {"description": "A page that says what is wrong", "content": _PAGE}
                else:
                    _say_how_it_refuses(path, method, operation)
        return written


def _say_how_it_refuses(path: str, method: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    refusals = {} if operation.get("security") == [{}] else dict(_OF_TOKENS)
    # Litestar describes a 400 of its own, which no client sees; one with a name is ours.
    if "$ref" not in answers.get("400", {}).get("content", {}).get(JSON, {}).get("schema", {}):
        has_body, is_told = "requestBody" in operation, bool(operation.get("parameters"))
        refusals |= (
            (_OF_BODIES if has_body else {})
            | (_MALFORMED if has_body or is_told else {})
            | (_OF_PATHS if "{" in path else {})
            | (_OF_CHANGES if method != "get" and (has_body or is_told) else {})
            | _OF_ALL
        )
    for status, meaning in sorted(refusals.items()):
        answers[status] = {"description": meaning, "content": _REFUSAL}


def texts(*required: str, also: tuple[str, ...] = ()) -> Schema:
    """Describe an object whose members are strings."""
    return Schema(type=OpenAPIType.OBJECT, required=list(required), properties=dict.fromkeys((*required, *also), TEXT))


def takes_body(media_type: str, schema: Schema) -> type[Operation]:
    """Describe a body that the handler reads by itself."""

    @dataclass
    class BodyOperation(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(required=True, content={media_type: OpenAPIMediaType(schema=schema)})

    return BodyOperation


def takes_query(*names: str) -> type[Operation]:
    """Describe parameters of a query that the handler reads by itself."""

    @dataclass
    class QueryOperation(Operation):
        def __post_init__(self) -> None:
            read = [Parameter(name=name, param_in="query", schema=TEXT) for name in names]
            self.parameters = [*(self.parameters or ()), *read]

    return QueryOperation


def tells_events(*, also_json: bool = False) -> type[Operation]:
    """Describe an answer that is a stream of server-sent events, or JSON where the client prefers that."""

    @dataclass
    class StreamOperation(Operation):
        def __post_init__(self) -> None:
            answer: Any = (self.responses or {})["200"]
            kept = answer.content if also_json else {}
            answer.content = {EVENT_STREAM: OpenAPIMediaType(schema=TEXT), **kept}

    return StreamOperation
