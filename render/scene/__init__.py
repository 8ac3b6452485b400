"""The parts that all render engines share: cameras, lights, settings, passes and images."""
