"""Crawls as they come: files, manifests, sidecars, the rendered sample."""
