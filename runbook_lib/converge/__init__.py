"""The desired state of hosts: resources, edits, the engine, and the agent that runs on a host. Nothing here depends on WSO2 or AWS."""
