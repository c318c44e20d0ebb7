"""Who asks and what they may do: tokens, JWTs, keys, scopes and row policies become one immutable `SecurityContext`.

It decides, and fails closed; `query/` applies. Nothing that a request carries besides its token changes a decision.
"""
