"""Of the process: clock, jobs, logs, history, mirror."""
