"""Keeps records safe until the broker has confirmed them: a log on disk, what is written to it and sent from it."""
