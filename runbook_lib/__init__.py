"""The library behind the notebooks: launch, configure and verify WSO2 clusters on EC2, step by step."""
