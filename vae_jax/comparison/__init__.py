"""Which runs are better, by how much, and how sure that is."""
