"""The judge: from records, limits and a moment to a verdict. No clock, no I/O, no logging, no numpy."""
