"""Module ``agent``: sessions, turns, approvals, agents and models. ``module.AgentModule`` is its one public surface."""
