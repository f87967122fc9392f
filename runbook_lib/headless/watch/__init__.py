"""Looking at deployments every few minutes: one pass, what is kept of it, who is told, and what Prometheus reads."""
