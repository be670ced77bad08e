"""From item texts to item vectors: templates, encoders, and the cache between them."""
