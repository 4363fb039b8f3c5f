"""What the runtime asks of the world, as small Protocols. Each has a contract suite that every adapter passes."""
