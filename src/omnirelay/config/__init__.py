"""Settings: read once at the edge, every field checked, relations too."""
