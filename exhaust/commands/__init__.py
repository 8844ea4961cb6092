"""The command line: one table of commands, and what each of them does."""
