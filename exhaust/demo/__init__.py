"""The loop shown on real processes of this host, in a scratch directory."""
