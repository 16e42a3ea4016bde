"""The only place of module ``agent`` with SQL, one file for each noun.

Every function takes the session of a unit of work (``Transaction.session``) or of a read, and uses Core statements on
the tables: rows, no identity map, so units that share a transaction share no objects.
"""
