"""The program `runbook`: the library's commands, and those that also need the lab and the practice packs."""
