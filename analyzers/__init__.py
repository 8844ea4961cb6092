"""What infers facts from records: one file per method."""
