"""The mesh's words as frozen values. Nothing here waits, reads a clock or knows a wire format."""
