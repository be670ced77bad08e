"""``recbench write-texts``: a language model writes about the histories of training."""
