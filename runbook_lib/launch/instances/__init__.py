"""EC2 instances of a deployment: how they are described, launched, started and stopped."""
