"""The reference study, claim by claim and figure by figure, from the simulator alone."""
