"""Hardware and software as data: devices, rates, software settings, and the loader of validated YAML."""
