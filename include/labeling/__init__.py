"""From planned batches to people and back: Argilla settings, records, answers, agreement, labels."""
