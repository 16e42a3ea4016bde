"""The only place of module ``auth`` with SQL, one file for each noun, for SQLite 3.35 and PostgreSQL 15 alike.

Functions take the session of a reader or of a unit of work and never commit. They use the tables, not the mapped
classes, so nothing is loaded behind a caller's back.
"""
