"""Probes: what a client of a service would meet, tried from this host."""
