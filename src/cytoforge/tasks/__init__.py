"""What is done with cells besides making them: supervised, with the contract of the methods."""
