"""Configs: their defaults, how one is read and checked, and what it optimises in words."""
