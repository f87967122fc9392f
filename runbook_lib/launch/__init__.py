"""The deployment's machines in EC2: observe, plan, apply, verify, remove."""
