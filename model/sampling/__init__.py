"""A video becomes meshes: samplers, guidance, and the pipeline of three stages."""
