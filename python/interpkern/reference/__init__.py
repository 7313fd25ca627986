"""Every operation as slow, obvious torch; the other backends are tested against these."""
