"""Runs the settings of papers and holds what they give to what the papers say."""
