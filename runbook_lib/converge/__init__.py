"""Desired state of hosts: resources, edits, engine, and the agent that runs on a host. Knows neither WSO2 nor AWS."""
