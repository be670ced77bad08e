"""Finished runs as tools for a language model: the Model Context Protocol."""
