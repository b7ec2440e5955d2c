"""The demo: hall and agent as child processes, a stage, a verdict."""
