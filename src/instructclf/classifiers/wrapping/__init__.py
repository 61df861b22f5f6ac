"""Any classifier → a classifier around it."""
