"""What a notebook calls: one object per chapter with plan, apply, verify."""
