"""Code shared by the vendors: reading answers, refusals and images. Runs in workers."""
