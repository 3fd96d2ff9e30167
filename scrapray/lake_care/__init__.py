"""Looking after a lake: is every row of it whole and traceable, and which old runs can go."""
