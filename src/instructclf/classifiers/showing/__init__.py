"""What a classifier reads and scores → objects that a person can look at, as text and as HTML."""
