"""The AWS endpoint: moto, corrected to respond as AWS does, with real machines behind EC2."""
