"""Work on the machines of a deployment that serves, which no parameter declares."""
