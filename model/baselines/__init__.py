"""The methods that NMCL is compared with: those of the paper, and what a user would pick today."""
