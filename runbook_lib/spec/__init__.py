"""The parameters of a deployment and the patterns that they choose from."""
