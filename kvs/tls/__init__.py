"""Certificates: reading and checking them, speaking TLS with them, issuing them."""
