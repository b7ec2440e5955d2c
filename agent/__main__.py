"""`python -m agent`: the `skadi` command without its script, for processes that start it."""

from agent.cli import main

main()
