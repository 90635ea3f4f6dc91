"""All code that imports Prefect."""
