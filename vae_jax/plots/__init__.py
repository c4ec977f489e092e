"""Pictures of a run and of a study; the only folder that imports matplotlib."""
