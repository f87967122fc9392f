"""EC2, S3 and Parameter Store on one's own computer; an instance is a real machine with systemd, sshd and cloud-init."""
