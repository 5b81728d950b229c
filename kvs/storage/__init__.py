"""How records are kept: versions, codecs, the key space, stores."""
