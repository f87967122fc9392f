"""The classroom: JupyterHub with a login, a lab and limits for each learner, on one machine."""
