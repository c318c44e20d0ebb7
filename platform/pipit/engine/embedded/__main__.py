"""`python -m pipit.engine.embedded`: the engine process. Started by the supervisor only, never by hand."""

from pipit.engine.embedded.child import main

if __name__ == "__main__":
    main()
