"""The program `runbook`: the library's commands, and those that need the lab and the practice packs beside it."""
