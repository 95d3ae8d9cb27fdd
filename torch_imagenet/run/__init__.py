"""A run of any mode: its recipe, and what it says of itself."""
