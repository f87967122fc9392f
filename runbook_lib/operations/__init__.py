"""What is done to a running cluster: start, restart one by one, deploy, back up."""
