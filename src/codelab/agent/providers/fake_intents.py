"""What ``fake-llm`` understands: a user's sentence becomes steps, each of them calls that may run side by side."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import msgspec

__all__ = ("COUNT_LIMIT", "PlannedCall", "Step", "parse")

COUNT_LIMIT = 10_000
_LONGEST = 2_000  # characters; the patterns below take quadratic time on a sentence made for it

_NAMED_FILES = r"(?:readme|license|makefile|dockerfile|changelog|contributing|todo|notice|\.\w+)"
_HERE = {
    "here",
    "it",
    ".",
    "the project",
    *(f"this {it}" for it in ("folder", "directory", "project", "repo", "repository")),
}
_PATH = r"""(`[^`\n]+`|"[^"\n]+"|'[^'\n]+'|[^\s`"']+)"""
_POLITE = re.compile(
    r"(?:please|hey|hi|hello|now|then|ok(?:ay)?|(?:can|could|would|will) you|i want you to|let'?s)[\s,!]+",
    re.IGNORECASE,
)

_COUNT = re.compile(r"count\s+(?:up\s+)?(?:from\s+(?:1|one)\s+)?to\s+(\d+)", re.IGNORECASE)
_RUN = re.compile(r"(?:run|execute)\s+(?:(?:the\s+)?(?:shell\s+)?command:?\s+)?(.+)", re.IGNORECASE | re.DOTALL)
_FOLDER = re.compile(
    rf"(?:mkdir\s+(?:-p\s+)?|(?:create|make|add)\s+(?:me\s+)?(?:an?\s+|the\s+)?(?:new\s+)?(?:folder|directory)\s+"
    rf"(?:called\s+|named\s+)?){_PATH}",
    re.IGNORECASE,
)
_CREATE = re.compile(
    rf"(?:create|write|make|add)\s+(?:me\s+)?(?:an?\s+|the\s+)?(?:new\s+)?(?P<file>(?:\w+\s+)?(?:file|script|program)\s+)?"
    rf"(?:called\s+|named\s+)?(?P<path>{_PATH})"
    r"(?:\s+(?:(?:that|which|to)\s+(?:prints?|says?|echo(?:e?s)?|outputs?|logs?|displays?)\s+(?P<prints>.+)"
    r"|(?:with|containing|(?:that|which)\s+contains?)\s+(?:the\s+)?(?:(?:text|contents?|line)\b:?\s+)?(?P<content>.+)))?",
    re.IGNORECASE | re.DOTALL,
)
_PUT = re.compile(
    rf"(?:write|put|save)\s(?P<content>.+)\s(?:in)?to\s(?:the\s)?(?:file\s)?(?P<path>{_PATH})",
    re.IGNORECASE | re.DOTALL,
)
_LIST = re.compile(
    r"(?:ls|(?:list|show)(?:\s+me)?(?:\s+(?:all|the|my|of))*\s+(?:files|folders|directories|everything)(?:\s+and\s+folders)?"
    r"|what\s+files\s+(?:are|is)(?:\s+there)?(?=\s+(?:in|here))|list(?=\s+\S))"
    r"(?:\s+(?:(?:in|of|under|inside|from)\s+)?(?P<path>.+))?",
    re.IGNORECASE,
)
_IN_FOLDER = re.compile(
    r"what(?:'s|\s+is|s)\s+in(?:side)?\s+(?:the\s+(?=folder|directory|\w+(?:\s+folder|\s+directory)?$))?(?P<path>.+)",
    re.IGNORECASE,
)
_SEARCH = re.compile(
    r"(?:(?:search|grep|look)(?:\s+(?:the\s+)?(?:code|project|files))?(?:\s+for)?|find)\s+(?P<query>.+?)"
    r"(?:\s+(?:in|under|inside)\s+(?P<path>[^\s].*))?",
    re.IGNORECASE,
)
_READ = re.compile(
    r"(?P<verb>read|open|cat|show(?:\s+me)?|print|display|explain|summari[sz]e|describe|what(?:'s|\s+is|s)\s+in(?:side)?|what\s+does"
    r"|tell\s+me\s+about)\s+(?:the\s+)?(?:contents?\s+of\s+)?(?:the\s+)?(?:what\s+)?(?P<file>files?\s+)?(?P<paths>.+?)"
    r"(?:\s+(?:say|do(?:es)?|contain|mean|file)s?)?",
    re.IGNORECASE,
)


class PlannedCall(msgspec.Struct, frozen=True):
    """Hold a tool call that is to be made."""

    tool: str
    arguments: dict[str, Any]


class Step(msgspec.Struct, frozen=True):
    """Hold what is done at once: calls that may run side by side, or counting to ``count_to``."""

    calls: tuple[PlannedCall, ...] = ()
    count_to: int | None = None


def parse(sentence: str) -> tuple[Step, ...]:
    """Return the steps that ``sentence`` asks for, none when it is not understood."""
    if len(sentence) > _LONGEST:
        return ()
    # "and then" may also stand in the content of a file; it divides only what is understood on both sides.
    steps = [_parse_one(part) for part in re.split(r"[,;.]?\s(?:and\s)?then\s", sentence, flags=re.IGNORECASE)]
    if None in steps:
        steps = [_parse_one(sentence)]
    return tuple(step for step in steps if step)


def _parse_one(sentence: str) -> Step | None:
    while polite := _POLITE.match(sentence):
        sentence = sentence[polite.end() :]
    sentence = re.sub(r"[\s,]+please\W*$", "", sentence.strip(), flags=re.IGNORECASE)
    bare = sentence.rstrip("?!").rstrip()
    bare = bare[:-1] if re.search(r"[^\s.]\.$", bare) else bare
    if found := _COUNT.fullmatch(bare):
        return Step(count_to=int(found[1][:9]))
    for plan in (_plan_run, _plan_folder, _plan_write, _plan_list, _plan_search, _plan_read):
        if calls := plan(sentence if plan in (_plan_run, _plan_write) else bare):
            return Step(calls=calls)
    return None


def _plan_run(sentence: str) -> tuple[PlannedCall, ...]:
    found = _RUN.fullmatch(sentence)
    if not found:
        return ()
    quoted = re.search(r"`([^`]+)`", found[1])
    if not quoted and re.match(r"(?:the|my|all|an?|this|it)\b", found[1], re.IGNORECASE):
        return ()
    return (PlannedCall("execute_command", {"command": (quoted[1] if quoted else found[1]).strip()}),)


def _plan_folder(sentence: str) -> tuple[PlannedCall, ...]:
    found = _FOLDER.fullmatch(sentence)
    return (PlannedCall("create_directory", {"path": _unquote(found[1])}),) if found else ()


def _plan_write(sentence: str) -> tuple[PlannedCall, ...]:
    found = _CREATE.fullmatch(sentence) or _CREATE.fullmatch(sentence.rstrip(".!?"))
    if found and (found["file"] or _looks_like_path(found["path"])):
        path = _unquote(found["path"])
        if found["content"] is not None:
            content = _take_text(found["content"])
        else:
            stem = path.rsplit("/", 1)[-1].partition(".")[0]
            content = _write_program(path, _unquote((found["prints"] or stem).rstrip(".!") or stem))
        return (PlannedCall("write_file", {"path": path, "content": content}),)
    found = _PUT.fullmatch(sentence.rstrip(".!?"))
    if found and _looks_like_path(found["path"]):
        return (PlannedCall("write_file", {"path": _unquote(found["path"]), "content": _take_text(found["content"])}),)
    return ()


def _plan_list(sentence: str) -> tuple[PlannedCall, ...]:
    found = _LIST.fullmatch(sentence)
    if not found:
        found = _IN_FOLDER.fullmatch(sentence)
        place = _folder(found["path"]) if found else ""
        if (
            found
            and (place == "." or re.fullmatch(r"[\w/-]+", place))
            and not re.fullmatch(_NAMED_FILES, place, re.IGNORECASE)
        ):
            return (PlannedCall("list_files", {"path": place}),)
        return ()
    path = found["path"] or "."
    recursive = re.search(r"\brecursively\b", path, re.IGNORECASE)
    path = re.sub(r"\s*\brecursively\b", "", path, flags=re.IGNORECASE).strip() or "."
    path = _folder(re.sub(r"^(?:in|of|under)\s+", "", path, flags=re.IGNORECASE))
    if re.search(r"\s", path) or path.startswith("-"):
        return ()
    return (PlannedCall("list_files", {"path": path, "recursive": True} if recursive else {"path": path}),)


def _plan_search(sentence: str) -> tuple[PlannedCall, ...]:
    found = _SEARCH.fullmatch(sentence)
    if not found:
        return ()
    arguments = {"query": _unquote(found["query"])}
    if found["path"] and _folder(found["path"]) != ".":
        arguments["path"] = _folder(found["path"])
    return (PlannedCall("search_in_code", arguments),)


def _plan_read(sentence: str) -> tuple[PlannedCall, ...]:
    found = _READ.fullmatch(sentence)
    if not found:
        return ()
    paths = [path for path in re.split(r"\s*(?:,\s*and\s|,|\s+and\s+|\s+&\s+)\s*", found["paths"]) if path]
    sure = bool(found["file"]) or found["verb"].lower() in {"read", "open", "cat"}
    for path in paths:
        if not (_looks_like_path(path) or (sure and re.fullmatch(_PATH, path))):
            return ()
    return tuple(PlannedCall("read_file", {"path": _unquote(path)}) for path in paths)


def _looks_like_path(word: str) -> bool:
    if not re.fullmatch(_PATH, word):
        return False
    bare = _unquote(word)
    return (
        bare != word
        or "/" in bare
        or bool(re.fullmatch(_NAMED_FILES, bare, re.IGNORECASE) or re.search(r"\w\.\w+$", bare))
    )


def _folder(words: str) -> str:
    words = re.sub(
        r"^(?:the\s+)?(?:folder|directory)\s+|\s+(?:folder|directory)$", "", words.strip(), flags=re.IGNORECASE
    )
    if words.lower() in _HERE or re.fullmatch(
        r"(?:this|the|my)(?:\s+(?:code|project|repo|codebase|files?))*", words, re.IGNORECASE
    ):
        return "."
    return _unquote(words)


def _unquote(word: str) -> str:
    word = word.strip()
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "`\"'" else word


def _take_text(text: str) -> str:
    fenced = re.search(r"```[^\n]*\n(.*?)```", text, re.DOTALL)
    if fenced:
        return fenced[1]
    text = _unquote(text)
    return text if text.endswith("\n") else text + "\n"


def _write_program(path: str, text: str) -> str:
    """Return the smallest working program for the ending of ``path`` that prints ``text``."""
    match path.rsplit(".", 1)[-1].lower():
        case "py":
            return f"print({text!r})\n"
        case "js" | "mjs" | "ts":
            return f"console.log({json.dumps(text, ensure_ascii=False)});\n"
        case "sh" | "bash":
            return f"#!/bin/sh\necho {shlex.quote(text)}\n"
        case _:
            return text + "\n"
