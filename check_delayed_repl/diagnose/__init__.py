"""What a person sees: one judgement, explained. Session looks, picture puts together, report draws."""
