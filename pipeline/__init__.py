"""How data is written down and moved: records, errors, store, tables, ingest, media, extract, completion, report."""
