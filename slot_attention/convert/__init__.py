"""Foreign parameters in this project's layout."""
