"""KVS: an eventually consistent, clustered key-value database daemon."""

__version__ = "0.1.0"
