"""Several questions about one text."""
