"""The machines: their image, and each machine as a systemd-nspawn container with its own network, disk and console."""
