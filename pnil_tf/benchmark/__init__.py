"""What things cost: measured alternating in one process, quoted as ratios of medians."""
