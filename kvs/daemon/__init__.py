"""The command line and the life of the process."""
