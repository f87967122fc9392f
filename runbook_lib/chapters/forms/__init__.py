"""The forms of chapter 00: parameters, and passwords of one's own choice."""
