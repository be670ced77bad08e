"""Other frameworks on our splits: a prepared split in their layouts, and their results in our tables."""
