"""Names → models that are loaded once, shared by all estimators, and viewed by each.

``registry`` returns the model of a name, and loads it with ``loading`` at the first request.
``views`` copies its module tree over the same weights, so that an estimator can change how layers
run without changing the shared model. ``fingerprints`` tells one model from another.
"""
