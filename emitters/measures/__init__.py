"""What `performance` measures: one file for each stream, and what several of them read."""
