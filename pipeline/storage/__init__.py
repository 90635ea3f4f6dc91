"""Artifacts in a store: files, addresses, tables, the catalogue, failures and the champion."""
