"""Any classifiers → a classifier around them; and a linear one to put beside a language model."""
