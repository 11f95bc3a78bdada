"""One operator kind a file; a file here is found by listing the folder."""
