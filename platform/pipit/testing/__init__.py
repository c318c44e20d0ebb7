"""A project's own tests: what `pipit test` runs, and what is right."""
