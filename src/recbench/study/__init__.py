"""Studies: a question, the rows that answer it, and one command that trains, chooses, measures and tabulates them."""
