"""What is done to a finished model: compression."""
