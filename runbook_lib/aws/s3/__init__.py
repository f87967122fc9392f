"""S3: the account's own buckets, and what the runbook keeps in them for the machines and for the day when they are lost."""
