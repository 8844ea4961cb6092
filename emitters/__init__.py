"""What observes a host: one file per source."""
