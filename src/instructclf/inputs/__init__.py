"""What a caller gives → texts and labels that every other room may rely on, or an error."""
