"""Models of sets: who has what, in no order. What papers on collaborative filtering compare with."""
