"""The person at the terminal: their messages, their decisions, their login."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import msgspec
from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory

from codelab.client.approvals import Decision
from codelab.client.console import escape_line, escape_prose
from codelab.client.grants import SCOPES, read_grant
from codelab.client.session import Interrupted
from codelab.client.state import open_private_append

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.client.approvals import Call
    from codelab.client.console import Console

__all__ = ("Terminal", "ask_login")

Line = tuple[str, str]


class Terminal:
    """Ask the person in front of this terminal."""

    def __init__(self, console: Console, data: Path) -> None:
        self._console = console
        history = data / "history"
        # FileHistory would make the file with the person's umask.
        os.close(open_private_append(history))
        self._messages: PromptSession[str] = PromptSession(history=FileHistory(str(history)))
        self._answers: PromptSession[str] = PromptSession()

    async def message(self, agent: str | None) -> str | None:
        """Read the next message; ``None`` when the person leaves (Ctrl-C, Ctrl-D)."""
        try:
            # handle_sigint: the handler of the chat must still be there afterwards.
            return await self._messages.prompt_async(f"{escape_line(agent or 'codelab')}> ", handle_sigint=False)
        except (KeyboardInterrupt, EOFError):
            return None

    async def decide(self, call: Call, lines: list[Line]) -> Decision:
        """Show a call and ask y, n, edit or grant; ``n`` may be followed by a reason for the agent.

        Raises:
            Interrupted: the person pressed Ctrl-C.
        """
        return await self._choose(lines, "Allow? [y]es, [n]o (a reason may follow), [e]dit, [g]rant: ", call)

    async def go_on(self) -> Decision:
        """Ask y or n about a turn at a limit; ``n`` may be followed by a reason.

        Raises:
            Interrupted: the person pressed Ctrl-C.
        """
        return await self._choose([], "[y]es, [n]o (a reason may follow): ", None)

    async def confirm(self, lines: list[Line]) -> bool:
        """Show a grant and ask y or n.

        Raises:
            Interrupted: the person pressed Ctrl-C.
        """
        return (await self._choose(lines, "Allow, and grant this? [y]es, [n]o: ", None)).kind == "approve"

    async def trust(self, lines: list[Line]) -> bool | None:
        """Show what a project would start and ask y or n; ``None`` for Ctrl-C."""
        try:
            return (await self._choose(lines, "Start them? [y]es, [n]o: ", None)).kind == "approve"
        except Interrupted:
            return None

    async def answer(self, question: str, options: list[str]) -> str | None:
        """Put a question of an agent; a number chooses an answer, anything else is one; None for Ctrl-D.

        Raises:
            Interrupted: the person pressed Ctrl-C.
        """
        lines = [(escape_prose(line), "bold yellow") for line in question.split("\n")]
        lines += [(f"  {number}. {escape_line(option)}", "") for number, option in enumerate(options, start=1)]
        self._console.hold()
        try:
            self._console.block(lines)
            while True:
                said = await self._read("Your answer: ")
                if said is None:
                    return None
                text = said.strip()
                if text.isdecimal() and 1 <= int(text) <= len(options):
                    return options[int(text) - 1]
                if text:
                    return text
        finally:
            self._console.release()

    async def _choose(self, lines: list[Line], question: str, editable: Call | None) -> Decision:
        self._console.hold()
        try:
            self._console.block(lines)
            while True:
                word, _, rest = (await self._read(question) or "n").strip().partition(" ")
                match word.lower():
                    case "y" | "yes":
                        return Decision("approve")
                    case "n" | "no":
                        return Decision("reject", feedback=rest.strip() or None)
                    case "e" | "edit" if editable is not None:
                        with suppress(_NotEdited):
                            return Decision("edit", arguments=await self._edit(editable))
                    case "g" | "grant" if editable is not None:
                        grant = read_grant(rest or await self._read(f"For what ({SCOPES})? ") or "n")
                        if grant is not None:
                            return Decision("approve", grant=grant)
                        self._console.block([(f"A grant is {SCOPES}.", "yellow")])
                    case _:
                        words = "y, n, edit or grant" if editable is not None else "y or n"
                        self._console.block([(f"Please answer {words}.", "yellow")])
        finally:
            self._console.release()

    async def _read(self, question: str) -> str | None:
        try:
            return await self._answers.prompt_async(question, handle_sigint=False)
        except KeyboardInterrupt:
            raise Interrupted from None
        except EOFError:
            return None

    async def _edit(self, call: Call) -> object:
        text = msgspec.json.format(msgspec.json.encode(call.arguments), indent=2).decode() + "\n"
        try:
            edited = await asyncio.to_thread(click.edit, text, extension=".json")
        except click.ClickException as error:
            self._console.block([(escape_line(error.format_message()), "red")])
            raise _NotEdited from None
        if edited is None:
            self._console.block([("Nothing was changed.", "yellow")])
            raise _NotEdited
        try:
            found = msgspec.json.decode(edited)
        except msgspec.DecodeError as error:
            self._console.block([(f"This is not JSON: {escape_line(str(error))}", "red")])
            raise _NotEdited from None
        if not isinstance(found, dict):
            self._console.block([("The arguments must be a JSON object.", "red")])
            raise _NotEdited
        return found


class _NotEdited(Exception):
    """The editor gave no new arguments."""


def ask_login(url: str, username: str | None) -> tuple[str, str]:
    """Ask for name and password; the password is not shown."""
    click.echo(f"Log in to {url}", err=True)
    name = username or click.prompt("Username", type=str, err=True)
    return name, click.prompt("Password", type=str, hide_input=True, err=True)
