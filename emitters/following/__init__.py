"""What emitter `file` is made of: noticing that files change, reading what was added, and what was in force before."""
