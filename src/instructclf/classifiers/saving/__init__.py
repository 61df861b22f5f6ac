"""Fitted classifiers ↔ folders of JSON and safetensors, on disk and on the hub. No code in them.

``writing`` writes a classifier with a prompt and ``reading`` reads it, ``folders`` writes any
folder, and ``classifiers.loading`` finds out whose it is; ``json_values`` says which values a
folder may hold; ``schema_1`` converts folders of earlier versions.
"""

from instructclf.classifiers.saving.folders import FILE, SCHEMA
from instructclf.classifiers.saving.writing import export_classifier, save_classifier

__all__ = ["FILE", "SCHEMA", "export_classifier", "save_classifier"]
