"""What this machine, the account and the parameters lack, each with the fix."""
