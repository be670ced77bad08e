"""From raw files to sequences: sources read, cleaning filters, the store keeps, protocols split, batches feed."""
