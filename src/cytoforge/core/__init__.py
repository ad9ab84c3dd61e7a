"""What everything else stands on: batches, methods, run folders, randomness, errors."""
