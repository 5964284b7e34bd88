"""Redis as a broker, with bindings and messages in the form of kombu's Redis transport."""
