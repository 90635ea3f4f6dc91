"""Comparing methods: the same splits, the same completion and the same budget for each, over several seeds."""
