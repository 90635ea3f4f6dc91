"""The Prefect server and worker as processes. Nothing here imports Prefect."""
