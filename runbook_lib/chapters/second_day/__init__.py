"""Chapter 08: what is done to a cluster that people use, beside its chapters."""
