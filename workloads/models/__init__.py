"""One pipeline a file; a file here is found by listing the folder."""
