"""Checks of the running system. The functions return a `CheckTable` or the checks that make one."""
