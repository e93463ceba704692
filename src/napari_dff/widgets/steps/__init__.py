"""A widget for each step, and one for all of them."""
