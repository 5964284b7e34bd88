"""Redis as a broker: bindings and messages in the form of kombu's Redis transport."""
