"""Turn images and videos into the tokens that condition the networks."""
