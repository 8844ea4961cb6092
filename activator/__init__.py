"""What decides whether a fact is answered, and by which workflow."""
