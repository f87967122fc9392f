"""Many deployments in one command: a sweep over parameters, run a few at a time, with one record of what was found."""
