"""Input crawls: files, manifests, sidecars, the rendered sample."""
