// Practice server: stands for server-side code of the real application.
