"""From batch to outcome: what is sent, when, and what became of it."""
