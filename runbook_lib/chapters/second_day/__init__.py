"""What is done to a cluster that people use, beside its chapters: backups, rotation, patches, replaced machines, the disaster drill."""
