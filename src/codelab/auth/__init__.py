"""Module ``auth``: users, clients, tokens, keys, audit. ``module.AuthModule`` is its one public surface."""
