"""What reaches a target: one file per kind."""
