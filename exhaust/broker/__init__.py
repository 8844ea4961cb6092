"""One interface to messages in flight, two implementations: RabbitMQ and embedded."""
