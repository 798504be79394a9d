"""What strangers send, made up and mutilated."""
