"""Adapters of the coordination store (`omnirelay.ports.coordination`), and what they share: limits and watches."""
