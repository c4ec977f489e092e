"""Launchers: where a sweep is started; a file a place."""
