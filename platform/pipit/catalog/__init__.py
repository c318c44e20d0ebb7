"""What there is: workspaces, environments, resources, lineage and credentials, read back from the engine at start.

A request holds one immutable `Snapshot` from start to end; a change is written to the state first and swapped in after.
"""
