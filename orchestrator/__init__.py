"""What conducts workflows and verifies their effect."""
