"""The course: exercises on a running deployment that check themselves. `table` has the rows, `engine` the verbs."""
