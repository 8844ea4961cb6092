"""What all components share: messages, broker, service life-cycle, configuration, expressions, store, signing."""
