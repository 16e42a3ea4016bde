"""Turns: the work from a user message to the agent's answer.

``service`` takes the commands of clients, ``runner`` does the work between them, ``transitions`` are the only ways in
which a turn changes, each inside one unit of work. Between two model calls everything is in the database, so a killed
process goes on where it was.
"""

from __future__ import annotations

from codelab.agent.turns.approvals import ApprovalService
from codelab.agent.turns.calling import ModelCaller
from codelab.agent.turns.calls import CallTransitions
from codelab.agent.turns.claims import ClaimService
from codelab.agent.turns.context import ContextBuilder, ContextService
from codelab.agent.turns.expiry import Expiry
from codelab.agent.turns.queue import QueueService
from codelab.agent.turns.runner import Runner
from codelab.agent.turns.service import TurnService
from codelab.agent.turns.summary import Summariser
from codelab.agent.turns.transitions import Transitions

__all__ = (
    "ApprovalService",
    "CallTransitions",
    "ClaimService",
    "ContextBuilder",
    "ContextService",
    "Expiry",
    "ModelCaller",
    "QueueService",
    "Runner",
    "Summariser",
    "Transitions",
    "TurnService",
)
