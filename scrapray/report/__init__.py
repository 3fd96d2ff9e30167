"""What people read in the morning: pages with evidence, made of the published tables."""
