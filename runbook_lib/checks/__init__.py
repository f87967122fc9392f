"""Questions to the running system, each module answers with a CheckTable."""
