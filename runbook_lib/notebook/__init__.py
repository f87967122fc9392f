"""What JupyterLab shows beyond a cell's value: styles, error cards, progress, the parameters cell."""
