"""The interface of the notebooks: one object per chapter with plan, apply and verify."""
