// Practice server: stands for the modules of the real application.
