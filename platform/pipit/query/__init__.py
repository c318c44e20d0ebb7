"""The one way to read (rule 4), also for writers: every query goes to `Reader.open`, whose rows go to a client, or to
`Reader.write`, whose rows go into a table. Filters are applied here only (`planner.py`).

Result bytes pass through; a statement runs for a tenant only after that very text was examined on the engine's tree.
"""
