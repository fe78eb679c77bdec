"""A candidate's stages beside the reference's, and a verdict on each."""
