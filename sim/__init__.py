"""Cost models and the simulator: scenario in, result out."""
