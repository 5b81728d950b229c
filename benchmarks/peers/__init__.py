"""Other databases, started as they are delivered, so that their figures come from the same machine in the same run."""
