"""HTTP: thin Starlette routes, one module per family of resources; what they answer is decided below.

`server.py` puts together what a running server holds, `app.py` frames every request (id, errors, bounds).
"""
