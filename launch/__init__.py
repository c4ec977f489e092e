"""Where a run is started: one file a place."""
