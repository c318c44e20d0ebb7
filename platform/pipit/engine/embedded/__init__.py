"""The engine process: chDB behind ClickHouse's HTTP protocol on loopback, and the supervisor that keeps it running.

`supervisor` is the parent's side; everything else runs in the child (`child.main`). They share only `handshake`.
"""
