"""Who keeps a service: how each of them is asked, and what is known of a service by that."""
