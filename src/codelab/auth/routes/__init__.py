"""The routes of module ``auth``, a file for each noun. Thin: services decide."""
