"""Other programs that the command line runs: pytest over the tests of a clone, and papermill over one notebook."""
