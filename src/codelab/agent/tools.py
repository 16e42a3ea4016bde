"""The tools that agents may ask for: names, descriptions and JSON Schemas, as the reference system has them.

Those in ``SERVER_TOOLS`` are done by codelab itself, ``ask_followup_question`` is answered by the person, and all
others run on the user's machine, by the client.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from codelab.agent.providers import ToolSpec
from codelab.text import decode_lenient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jsonschema.protocols import Validator

__all__ = (
    "ASK_PERSON",
    "COMPLETE",
    "IDEMPOTENT",
    "SERVER_TOOLS",
    "SWITCH_MODE",
    "TOOLS",
    "UPDATE_PLAN",
    "InvalidArguments",
    "check_arguments",
    "check_value",
    "offer_tools",
    "read_arguments",
)

SWITCH_MODE, UPDATE_PLAN, COMPLETE = "switch_mode", "update_plan", "attempt_completion"
#: Tools that codelab does itself: no client ever sees a request for one.
SERVER_TOOLS = frozenset({SWITCH_MODE, UPDATE_PLAN, COMPLETE})
#: The tool whose result is what the person says.
ASK_PERSON = "ask_followup_question"
#: Tools that may be run twice without harm: they only look, or ask.
IDEMPOTENT = frozenset({"read_file", "list_files", "search_in_code", ASK_PERSON})
_PATH = {"type": "string", "minLength": 1}


class InvalidArguments(ValueError):
    """Say why the arguments of a tool call do not fit its schema; the sentence is for the model."""


def _spec(name: str, description: str, required: tuple[str, ...], **properties: dict[str, Any]) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return ToolSpec(name=name, description=description, parameters=schema)


#: Every tool by name.
TOOLS: dict[str, ToolSpec] = {
    spec.name: spec
    for spec in (
        _spec(
            "read_file",
            "Read a text file of the project. Lines are counted from 1; start_line and end_line are inclusive.",
            ("path",),
            path=_PATH | {"description": "Path inside the project folder."},
            encoding={"type": "string", "default": "utf-8"},
            start_line={"type": "integer", "minimum": 1},
            end_line={"type": "integer", "minimum": 1},
        ),
        _spec(
            "write_file",
            "Create a text file or replace all of its content. Needs a person's approval.",
            ("path", "content"),
            path=_PATH | {"description": "Path inside the project folder."},
            content={"type": "string", "description": "The whole new content."},
            encoding={"type": "string", "default": "utf-8"},
            create_dirs={"type": "boolean", "default": False, "description": "Make missing parent folders."},
            backup={"type": "boolean", "default": True, "description": "Keep the old content beside the file."},
        ),
        _spec(
            "apply_diff",
            "Change a text file that exists by a unified diff of that one file. Every hunk needs lines that say where "
            "it belongs: context and removed lines have to stand in the file exactly as written, and at one place "
            "only or at the line that the hunk names. When one hunk does not fit nothing is changed. Needs a person's "
            "approval.",
            ("path", "diff"),
            path=_PATH | {"description": "Path inside the project folder."},
            diff={
                "type": "string",
                "minLength": 1,
                "description": "Hunks: a line `@@ -12,3 +12,4 @@`, then lines that begin with a space, - or +.",
            },
            encoding={"type": "string", "default": "utf-8"},
        ),
        _spec(
            "delete_file",
            "Delete one file; folders stay. Needs a person's approval.",
            ("path",),
            path=_PATH | {"description": "Path inside the project folder."},
        ),
        _spec(
            "move_file",
            "Move or rename one file; nothing that exists is replaced. Needs a person's approval.",
            ("source", "destination"),
            source=_PATH | {"description": "Path of the file inside the project folder."},
            destination=_PATH | {"description": "Its new path inside the project folder, the name included."},
            create_dirs={"type": "boolean", "default": False, "description": "Make missing parent folders."},
        ),
        _spec(
            "list_files",
            "List files and folders.",
            ("path",),
            path=_PATH | {"description": "Folder inside the project; '.' is the project folder."},
            recursive={"type": "boolean", "default": False},
            include_hidden={"type": "boolean", "default": False},
            pattern={"type": "string", "description": "Only names that match this glob, such as *.py."},
        ),
        _spec(
            "create_directory",
            "Make a folder. Needs a person's approval.",
            ("path",),
            path=_PATH,
            recursive={"type": "boolean", "default": True, "description": "Make missing parents too."},
        ),
        _spec(  # noqa: S604 - a schema with a member that is called shell; nothing runs here
            "execute_command",
            "Run a command in the project folder and return its exit code and output. Needs a person's approval.",
            ("command",),
            command={"type": "string", "minLength": 1},
            cwd={"type": "string", "description": "Folder inside the project to run in."},
            timeout={"type": "integer", "minimum": 1, "maximum": 300, "default": 60, "description": "Seconds."},
            shell={"type": "boolean", "default": False, "description": "Run through the shell (pipes, &&, …)."},
        ),
        _spec(
            "search_in_code",
            "Find lines in files that contain a text or match a regular expression.",
            ("query",),
            query={"type": "string", "minLength": 1},
            path={"type": "string", "default": "."},
            file_pattern={"type": "string", "description": "Only files whose name matches this glob."},
            case_sensitive={"type": "boolean", "default": False},
            regex={"type": "boolean", "default": False},
            max_results={"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
        ),
        _spec(
            ASK_PERSON,
            "Ask the person one question that you cannot answer from the project, and wait for the answer.",
            ("question",),
            question={"type": "string", "minLength": 1, "maxLength": 4000},
            options={
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 500},
                "maxItems": 10,
                "description": "Answers to choose from; the person may always say something else.",
            },
        ),
        _spec(
            UPDATE_PLAN,
            "Show the person your to-do list, or its new state. Give the whole list each time: it replaces the last.",
            ("items",),
            items={
                "type": "array",
                "maxItems": 50,
                "items": {
                    "type": "object",
                    "properties": {
                        "text": {"type": "string", "minLength": 1, "maxLength": 500},
                        "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                    },
                    "required": ["text", "status"],
                    "additionalProperties": False,
                },
            },
        ),
        _spec(
            COMPLETE,
            "Say that the whole task is done, with the result for the person. Call it alone, after every other call "
            "has its result; your work on the task ends with it.",
            ("result",),
            result={"type": "string", "minLength": 1, "description": "What was done and how you know that it works."},
        ),
        _spec(
            SWITCH_MODE,
            "Hand the conversation to another agent when the task needs abilities that you do not have.",
            ("mode",),
            mode={"type": "string", "minLength": 1, "description": "The name of the agent."},
            reason={"type": "string", "default": "Task requires different agent capabilities"},
        ),
    )
}


def offer_tools(names: Iterable[str], agents: Mapping[str, str]) -> tuple[ToolSpec, ...]:
    """Return the tools that a model is offered; ``agents`` are those that a hand-over can name, with descriptions."""
    return tuple(_name_agents(TOOLS[name], agents) if name == SWITCH_MODE else TOOLS[name] for name in names)


def _name_agents(spec: ToolSpec, agents: Mapping[str, str]) -> ToolSpec:
    lines = "".join(f"\n- {name}: {description}" for name, description in agents.items())
    properties = spec.parameters["properties"] | {"mode": {"type": "string", "enum": list(agents)}}
    return ToolSpec(
        name=spec.name,
        description=f"{spec.description} The agents:{lines}",
        parameters=spec.parameters | {"properties": properties},
    )


@lru_cache(maxsize=256)
def _validator(name: str) -> Validator:
    # Imported late: jsonschema costs 60 ms that a client command or a migration need not pay.
    from jsonschema import Draft202012Validator

    validator: Validator = Draft202012Validator(TOOLS[name].parameters)
    return validator


def read_arguments(arguments: str) -> dict[str, Any]:
    """Read the JSON arguments of a call.

    Raises:
        InvalidArguments: they are no JSON object.
    """
    try:
        value = decode_lenient((arguments or "{}").encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise InvalidArguments("The arguments are not valid JSON.") from None
    if not isinstance(value, dict):
        raise InvalidArguments("The arguments must be a JSON object.")
    return value


def check_arguments(name: str, arguments: str) -> dict[str, Any]:
    """Read the JSON arguments of a call and check them against the tool's schema.

    Raises:
        InvalidArguments: no JSON object, or it does not fit; the message names the member.
    """
    return check_value(name, read_arguments(arguments))


def check_value(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Check arguments that are a JSON object already. See ``check_arguments``."""
    errors = _validator(name).iter_errors(value)
    error = min(errors, key=lambda error: [str(part) for part in error.absolute_path], default=None)
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path)
        raise InvalidArguments(f"{place}: {error.message[:500]}" if place else error.message[:500])
    return value
