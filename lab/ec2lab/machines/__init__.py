"""The machines: their image, and each of them as a systemd-nspawn container with a network, a disk and a console of its own."""
