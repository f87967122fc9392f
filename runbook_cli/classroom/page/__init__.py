"""How far every learner is, and the page on which the instructor sees it."""
