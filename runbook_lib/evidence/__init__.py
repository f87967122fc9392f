"""The evidence of a run: journal, report, comparison of runs."""
