"""What a node decides and how its writes are committed."""
