"""Image operations that several steps share."""
