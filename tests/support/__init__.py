"""What several tests need: trajectories, potentials and labels made for them, faults, a stand-in for pw.x, services."""
