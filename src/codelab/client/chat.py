"""One chat in one folder: its session, its instructions, its turns."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from codelab.client.console import escape_line
from codelab.client.errors import ApiError, ClientError
from codelab.client.session import Conversation
from codelab.client.tools.errors import ToolError
from codelab.client.tools.paths import printable_path

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from codelab.client.api import Api
    from codelab.client.approvals import Approvals
    from codelab.client.console import Console
    from codelab.client.state import SessionBook
    from codelab.client.tools.toolbox import Toolbox
    from codelab.client.turns import Outcome
    from codelab.client.wire import Session

__all__ = ("Chat", "interruptible")

T = TypeVar("T")

#: Bytes of JSON for the metadata of a session; the server takes 64 KiB.
MAX_METADATA = 64 * 1024 - 1024
#: Seconds to say that this chat leaves; the server may be the very thing that is gone.
LEAVING = 3.0
#: Messages shown of a session that goes on, and characters of each.
TAIL_MESSAGES = 6
TAIL_CHARACTERS = 2_000


class Chat:
    """One chat in one folder: a session that is made with the first message, or one that goes on."""

    def __init__(
        self,
        api: Api,
        toolbox: Toolbox,
        approvals: Approvals,
        console: Console,
        book: SessionBook,
        server: str,
        agent: str | None,
        model: str | None = None,
    ) -> None:
        self.api = api
        self.conversation: Conversation | None = None
        #: The agent to begin with, and later the one that the session is with.
        self.agent = agent
        self._model = model
        self._toolbox = toolbox
        self._approvals = approvals
        self._console = console
        self._book = book
        self._server = server
        self._unfinished: Session | None = None

    async def __aenter__(self) -> Self:
        """Begin to talk."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take this chat's MCP servers out of its session, unless a turn of it goes on that may need them again."""
        mcp = self._toolbox.mcp
        if mcp is None or self.conversation is None:
            return
        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(LEAVING):
                if (await self.look_up()).active_turn is None:
                    await mcp.leave(self.api, self.conversation.session_id)

    async def attach(self, session_id: str | None, *, show_tail: bool) -> None:
        """Go on with a session, by default the folder's latest one.

        Raises:
            ClientError: the named session does not exist.
        """
        found = session_id or self._book.latest(self._server, self._toolbox.folder.root)
        if found is None:
            self._console.note("This folder has no session yet; a new one begins.")
            return
        try:
            session = await self.api.session(found)
        except ApiError as error:
            if error.status == 404 and session_id is None:
                self._console.note("The latest session of this folder is gone; a new one begins.")
                return
            raise ClientError(f"Session {found}: {error}") from None
        metadata = self._metadata(session.metadata)
        if metadata != session.metadata:
            await self.api.update_metadata(session.session_id, metadata)
        if self.agent and self.agent != session.current_agent:
            await self.api.switch(session.session_id, self.agent)
        if self._model and self._model != session.model:
            await self.api.choose_model(session.session_id, self._model)
        self.agent = self.agent or session.current_agent
        self._join(session.session_id)
        if show_tail:
            await self._show_tail(session.session_id)
        self._unfinished = session

    async def open(self) -> Conversation:
        """Return the conversation; make its session where there is none."""
        if self.conversation is None:
            session = await self.api.create_session(self._metadata({}), self.agent, self._model)
            self.agent = session.current_agent or self.agent
            self.conversation = self._join(session.session_id)
        return self.conversation

    async def catch_up(self) -> Outcome | None:
        """Follow the turn that was running when we came, or when the connection was lost."""
        session, self._unfinished = self._unfinished, None
        if session is None or session.active_turn is None or self.conversation is None:
            return None
        self._console.note("A turn of this session is still running; it goes on here.")
        return await self.conversation.resume(session)

    async def say(self, content: str, images: Sequence[dict[str, str]] = ()) -> Outcome:
        """Send a message and follow its turn, after the one that may still be running."""
        conversation = await self.open()
        try:
            await self.catch_up()
            return await conversation.send(content, images)
        except ClientError:
            await self._remember_unfinished()
            raise

    async def look_up(self) -> Session:
        """Look up the session of this chat."""
        session = await self.api.session((await self.open()).session_id)
        self.agent = session.current_agent
        return session

    async def _remember_unfinished(self) -> None:
        # Best effort: the server may be the very thing that is gone.
        try:
            self._unfinished = await self.look_up()
        except ClientError:
            self._unfinished = None

    def _join(self, session_id: str) -> Conversation:
        self._book.remember(self._server, self._toolbox.folder.root, session_id)
        self.conversation = Conversation(session_id, self.api, self._toolbox, self._approvals, self._console)
        return self.conversation

    def _metadata(self, known: dict[str, Any]) -> dict[str, Any]:
        """Return the metadata with this folder and the instructions in its ``AGENTS.md``."""
        kept = {key: value for key, value in known.items() if key not in ("instructions", "folder")}
        metadata = kept | {"folder": printable_path(self._toolbox.folder.root)}
        instructions = self._instructions()
        room = MAX_METADATA - len(msgspec.json.encode(metadata)) - len('"instructions":"",')
        if not instructions or room <= 0:
            return metadata
        encoded = msgspec.json.encode(instructions)[1:-1]
        if len(encoded) > room:
            self._console.note("AGENTS.md is longer than 63 KiB; only its beginning is used.", "yellow")
            instructions = _cut(instructions, room)
        return metadata | {"instructions": instructions}

    def _instructions(self) -> str | None:
        folder = self._toolbox.folder
        if not os.path.lexists(Path(folder.root, "AGENTS.md")):
            return None
        try:
            with folder.open_file(folder.resolve("AGENTS.md")) as descriptor:
                text = os.read(descriptor, MAX_METADATA + 4).decode("utf-8", "replace")
        except (ToolError, OSError) as error:
            self._console.note(f"AGENTS.md is not used: {error}", "yellow")
            return None
        return text.replace("\0", "").strip() or None

    async def _show_tail(self, session_id: str) -> None:
        messages = [
            message
            for message in await self.api.history(session_id)
            if message.get("role") in ("user", "assistant")
            and message.get("content")
            and message.get("status") != "streaming"
        ]
        if len(messages) > TAIL_MESSAGES:
            self._console.note(f"… {len(messages) - TAIL_MESSAGES} earlier messages")
        for message in messages[-TAIL_MESSAGES:]:
            speaker = "you" if message["role"] == "user" else escape_line(str(message.get("agent") or "agent"))
            text = str(message["content"])
            text = text if len(text) <= TAIL_CHARACTERS else text[:TAIL_CHARACTERS] + " …"
            mark = " [interrupted]" if message.get("status") == "interrupted" else ""
            self._console.note(f"{speaker}:{mark}", "bold")
            self._console.answer(text)
            self._console.end_answer()


async def interruptible(chat: Chat, work: Coroutine[Any, Any, T]) -> T:
    """Follow a turn; the first Ctrl-C cancels it, the second one leaves (``CancelledError``)."""
    task = asyncio.ensure_future(work)
    presses = 0

    def press() -> None:
        nonlocal presses
        presses += 1
        if presses > 1 or chat.conversation is None or not chat.conversation.interrupt():
            task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, press)
    try:
        return await task
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _cut(text: str, room: int) -> str:
    """Cut a text so that its JSON form has at most ``room`` bytes."""
    low, high = 0, min(len(text), room)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(msgspec.json.encode(text[:middle])) - 2 <= room else (low, middle - 1)
    return text[:low]
