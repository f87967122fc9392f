"""The desired state of each role as pure functions from a Context to stages of resources; no I/O."""
