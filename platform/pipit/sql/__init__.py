"""SQL text: where its tokens, tables and clauses are, what of it is allowed, and the one printer of literals (rule 2).

Knows no project, no request and no engine; the lists in `reviewed/` were made from the engine and read by people.
"""
