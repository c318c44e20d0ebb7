"""The one way to read (rule 4): every reader hands its query to `Reader.open`; filters are applied here only.

Result bytes pass through; a statement runs for a tenant only after that very text was examined on the engine's tree.
"""
