"""What a network costs, sees and does: plain results, computed from the spec or measured on a module."""
