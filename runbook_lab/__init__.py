"""The pretend AWS: an EC2, S3 and SSM endpoint on one's own machine whose instances are real machines."""
