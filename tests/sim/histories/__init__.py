"""Random histories of a simulated program, and what must hold after them."""
