"""The HTTP interface and the Server object that wires all parts."""
