"""Array-likes → texts and labels that every other room can rely on, or an error."""
