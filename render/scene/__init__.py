"""What every render engine shares: cameras, lights, settings, passes and images."""
