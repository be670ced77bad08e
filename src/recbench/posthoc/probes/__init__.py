"""What is asked of a finished run: probes that read it and never write into it."""
