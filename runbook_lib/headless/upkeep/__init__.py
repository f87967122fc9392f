"""The command line of what is done to a deployment's machines on the second day."""
