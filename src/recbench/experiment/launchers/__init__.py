"""Where the jobs of a sweep run, when not one after the other in this process."""
