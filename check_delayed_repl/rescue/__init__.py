"""Getting data back from what still waits on a delayed replica: stop in time, find the mistake, apply all before it."""
