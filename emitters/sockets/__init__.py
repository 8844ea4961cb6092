"""The kernel's sockets: who talks to whom, and whose they are."""
