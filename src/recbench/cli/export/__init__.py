"""A finished run as a program that plain torch can load, with the names of its items."""
