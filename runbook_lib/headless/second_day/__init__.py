"""The command line of what is done to a cluster that people use."""
