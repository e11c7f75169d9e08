"""What the vendors' answers have in common: reading, refusals, images. Run by workers."""
