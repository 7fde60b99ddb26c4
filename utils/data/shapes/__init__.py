"""The scenes of the built-in data set: geometry, patterns, light, and their composition."""
