"""Display in JupyterLab beyond a cell's value: styles, error cards, progress, the parameters cell."""
