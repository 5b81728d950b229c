"""Real daemons under load, and everything that can go wrong: `make chaos`."""
