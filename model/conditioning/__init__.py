"""Images and videos become the tokens that condition the networks."""
