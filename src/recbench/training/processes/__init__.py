"""One run over several processes, one a device: who they are, how they meet, and what they tell each other."""
