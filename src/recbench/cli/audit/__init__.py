"""What a reader must know of a data set and a protocol before believing a number: ``recbench audit``."""
