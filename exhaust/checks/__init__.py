"""What is wrong with a configuration beyond each entry by itself."""
