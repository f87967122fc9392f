"""Work on the machines of a cluster that serves: one machine at a time, out of service meanwhile."""
