"""AWS behind boto3: clients, parameter store, lock, images, host keys, packs."""
