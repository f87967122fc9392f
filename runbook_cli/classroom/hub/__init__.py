"""What runs inside of JupyterHub: its configuration, the logins, the learners' servers."""
