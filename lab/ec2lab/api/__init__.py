"""The AWS endpoint: moto, made to answer as AWS does, with real machines behind EC2."""
