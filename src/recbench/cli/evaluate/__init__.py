"""A finished run asked anew: other data of the same items, another protocol, other metrics."""
