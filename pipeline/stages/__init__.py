"""Pipeline stages as plain functions: ingest, split, fit, extract, complete, drift, verify."""
