"""A recording or a history, judged again: many samples at once."""
