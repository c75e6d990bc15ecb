"""Which records are worth a person's time, and with what probability each was picked."""
