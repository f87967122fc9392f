"""Failover under load: machines lose power while visitors browse."""
