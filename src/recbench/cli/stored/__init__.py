"""What lies in a folder of runs: which run needs which, what can go, and what is left over."""
