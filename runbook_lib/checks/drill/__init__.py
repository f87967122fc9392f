"""The failover drill: nodes lose power or restart while a stream of requests runs."""
