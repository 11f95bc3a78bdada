"""One file for each family of operators that tables of measurements hold; see `base`."""
