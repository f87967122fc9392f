"""Passwords, keys and certificates that are replaced while the cluster serves."""
