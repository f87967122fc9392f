"""Whether the secrets of a deployment are those in use, and old ones are refused."""
