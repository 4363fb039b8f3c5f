"""The loops that drive the pure cores: read, decide, persist, then act. The only place that starts tasks."""
