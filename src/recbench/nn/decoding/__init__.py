"""From log-probabilities of codes to items: the trie of all items, a beam search over it, and the exact scores of the whole catalogue."""
