"""What is computed: operator kinds, traces captured from torch modules, and the models. Knows no hardware."""
