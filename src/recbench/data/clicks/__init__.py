"""Impressions with labels, for the protocol ``clicks``: rows that were shown, what became of them, and what was known of the user by then."""
