"""Data records and processing: records, errors, store, tables, ingest, media, extract, completion, report."""
