"""Training: prepared cases and a plan become weights."""
