"""Commands as rules see them: plain argument vectors for what allows, every part of a script for what denies or asks.

A deny finds a program at the beginning of each simple command, behind wrappers such as ``env`` and ``sudo``, and in
quoted texts that read like a command. It does not see what a program does by itself (``make``, ``npm run``, a script
file), what an alias or another name of a program stands for, nor other spellings of its options. Where a program's name
is made while the script runs (``$X``, ``$(…)``, globs), nobody knows it, and so a person is asked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from codelab.agent.policy.folding import fold

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Script", "Simple", "begins_with", "plain_argv", "program", "read_script")

#: Characters of a command that is still read; a longer one is taken for whatever is denied.
MAX_COMMAND = 16_384
#: Levels of commands inside the words of commands.
MAX_DEPTH = 4
_WORD = r"[A-Za-z0-9_@+=:,./-]"
#: Words that mean the same to every shell and without one: no quotes within words, nothing that any of them expands.
_PLAIN = re.compile(rf"{_WORD}+(?: +(?:{_WORD}+|'(?:{_WORD}| )*'|\"(?:{_WORD}| )*\"))*")
_PLAIN_WORD = re.compile(rf"'([^']*)'|\"([^\"]*)\"|({_WORD}+)")
_ASSIGNMENT = re.compile(r"[a-z_][a-z0-9_]*\+?=")
_QUOTED = r"""(?P<single>'[^']*(?:'|\Z))|(?P<double>"(?:[^"\\]|\\.?)*(?:"|\Z))|(?P<escape>\\.?)"""
#: How a shell cuts a text into pieces, and how a program is started without one.
_BY_SHELL = re.compile(rf"{_QUOTED}|(?P<end>[;&|()<>`\n])|(?P<space>\s+?)|(?P<plain>[^\s'\"\\;&|()<>`]+)", re.DOTALL)
_BY_WORDS = re.compile(rf"{_QUOTED}|(?P<space>\s+)|(?P<plain>[^\s'\"\\]+)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
#: What a word has that reads like a text of its own.
_BREAKS = re.compile(r"[\s;&|()<>`]")
#: What makes a word while the script runs.
_EXPANDS = re.compile(r"[$`]")
_MADE_LATER = re.compile(r"[$`*?\[{~%!^]")
#: Programs and words of the shell that run what comes after them, in some word.
_WRAPPERS = frozenset(
    """
    ! { } and ash bash begin builtin bunx busybox case chpst chroot chrt cmd command coproc csh dash do doas
    docker elif else env eval exec fakeroot find firejail fish flatpak-spawn flock function gdb gosu if ionice
    kubectl ksh ltrace nice nohup npx nsenter numactl or parallel perf pipenv pkexec podman poetry powershell
    prlimit proot proxychains pwsh rlwrap run0 runas runuser script setarch setpriv setsid sg sh softlimit ssh
    start start-process stdbuf strace su sudo systemd-run taskset tcsh then time timeout toybox trap unbuffer
    unshare until uv valgrind watch while winpty wsl xargs xvfb-run zsh
    """.split()  # noqa: SIM905 - a list of a hundred strings in quotes is harder to read
)
_SHELLS = re.compile(
    r"(?:ba|da|z|k|c|tc|a|fi|pw)?sh|powershell|cmd|python[0-9.]*|perl|ruby|node|php|lua|eval|source|alias|\.|iex"
)
_SUFFIX = re.compile(r"\.(?:exe|com|bat|cmd|ps1)$")


class Simple(NamedTuple):
    """One simple command: its words, folded; ``wraps`` when one of them may begin another command."""

    words: tuple[str, ...]
    wraps: bool


class Script(NamedTuple):
    """All simple commands that were found in a text; ``certain`` when there can be no others.

    ``words_certain`` when no word of it is made while the script runs.
    """

    commands: tuple[Simple, ...]
    certain: bool
    words_certain: bool


def plain_argv(command: str) -> tuple[str, ...] | None:
    """Return the words of a command that is nothing but words, in any shell and without one; else None."""
    if len(command) > MAX_COMMAND or not _PLAIN.fullmatch(command):
        return None
    words = tuple(single or double or bare for single, double, bare in _PLAIN_WORD.findall(command))
    return None if "=" in words[0] else words


def read_script(command: str) -> Script | None:
    """Find the simple commands in a text, as a shell reads it and as it is without one; None when it is too long."""
    if len(command) > MAX_COMMAND:
        return None
    folded = fold(command, keep="\n\t\r\v\f")
    # Windows' separator and its escape are tried as well.
    texts = {folded, folded.replace("\\", "/"), folded.replace("^", "")}
    reader = _Reader()
    for text in sorted(texts):
        reader.read(text, _BY_SHELL, MAX_DEPTH)
        reader.read(text, _BY_WORDS, MAX_DEPTH)
    certain = plain_argv(command) is not None or reader.certain
    return Script(tuple(dict.fromkeys(reader.found)), certain, _MADE_LATER.search(folded) is None)


def begins_with(command: Simple, prefix: tuple[str, ...]) -> bool:
    """Tell whether a simple command runs the program and has the further words of a prefix, others between them."""
    name = program(fold(prefix[0]))
    for start, word in enumerate(command.words):
        # An option or a variable may name a program as well.
        value = word.partition("=")[2]
        if ((start == 0 or command.wraps) and program(word) == name) or (value and program(value) == name):
            # The first one is enough: what comes after a later one comes after it too.
            rest = iter(command.words[start + 1 :])
            return all(any(fold(wanted) == word for word in rest) for wanted in prefix[1:])
    return False


def program(word: str) -> str:
    """Return the name of a program without its folder and the suffixes of Windows."""
    name = word.replace("\\", "/").rstrip("/. ").rpartition("/")[2].lstrip("!@")
    return _SUFFIX.sub("", name) or word


class _Reader:
    """Split texts into simple commands, and the words that read like a text again."""

    def __init__(self) -> None:
        self.found: list[Simple] = []
        self.certain = True
        self._seen: set[tuple[str, str]] = set()

    def read(self, text: str, pieces: re.Pattern[str], depth: int) -> None:
        """Find the commands of a text, and those in its words."""
        if (text, pieces.pattern) in self._seen:
            return
        self._seen.add((text, pieces.pattern))
        if depth == 0:
            self.certain = False
            return
        commands = list(self._split(text, pieces))
        for words in commands:
            self._add(words, alone=len(commands) == 1)
            for part in {part for word in words for part in (word, word.partition("=")[2])}:
                if _BREAKS.search(part):
                    self.read(part, _BY_SHELL, depth - 1)
        if "<<" in text:
            self.certain = False

    def _add(self, words: tuple[str, ...], *, alone: bool) -> None:
        first = next((word for word in words if not _ASSIGNMENT.match(word)), "")
        name = program(first)
        if _MADE_LATER.search(first) or (not alone and _SHELLS.fullmatch(name)):
            self.certain = False
        self.found.append(Simple(words, name in _WRAPPERS or first != words[0]))

    def _split(self, text: str, pieces: re.Pattern[str]) -> Iterator[tuple[str, ...]]:
        """Yield the words of each simple command, without their quotes."""
        words: list[str] = []
        word: str | None = None
        for found in pieces.finditer(text):
            kind, piece = found.lastgroup, found[0]
            if kind in {"plain", "double"} and _EXPANDS.search(piece):
                self.certain = False
            if kind in {"single", "double"}:
                closed = len(piece) > 1 and piece[-1] == piece[0]
                self.certain &= closed
                inner = piece[1:-1] if closed else piece[1:]
                word = (word or "") + (_ESCAPED.sub(r"\1", inner) if kind == "double" else inner)
            elif kind == "escape":
                word = (word or "") + piece[1:].replace("\n", "")
            elif kind == "plain":
                word = (word or "") + piece
            else:
                if word is not None:
                    words.append(word)
                    word = None
                if kind == "end" and words:
                    yield tuple(words)
                    words = []
        if word is not None:
            words.append(word)
        if words:
            yield tuple(words)
