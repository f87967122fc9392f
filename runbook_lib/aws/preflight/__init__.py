"""What is asked of the account before anything is created in it."""
