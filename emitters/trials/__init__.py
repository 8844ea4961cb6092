"""Small measurements of what this host can do: the program that does them, and who answers over the network."""
