"""What a person sees: one judgement, explained. The session samples, the picture puts together, the rest shows."""
