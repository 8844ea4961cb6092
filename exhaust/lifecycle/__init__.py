"""What keeps a component running: its life, its process, the supervisor of all, and what it tells of itself."""
