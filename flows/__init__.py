"""Who does what, when and where: Prefect flows, settings, the embedded server and the command line."""
