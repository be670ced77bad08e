"""A finished run in use: histories in, items with their names out."""
