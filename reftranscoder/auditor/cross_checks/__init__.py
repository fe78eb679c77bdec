"""What a judged batch shows beside its verdicts."""
