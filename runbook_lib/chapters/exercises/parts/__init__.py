"""The rows of the exercises, a YAML file for each part of the course. The head of `nginx.yaml` explains every field."""
