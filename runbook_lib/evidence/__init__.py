"""What a run leaves behind: journal, report, comparison of runs, static site."""
