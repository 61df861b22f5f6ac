"""Fitted classifiers ↔ folders of JSON and safetensors, on disk and on the hub. No code in them.

``writing`` writes them, and ``classifiers.loading`` reads them; ``json_values`` says which values a
folder may hold; ``schema_1`` converts folders of earlier versions.
"""

from instructclf.classifiers.saving.writing import (
    FILE,
    SCHEMA,
    export_classifier,
    save_classifier,
)

__all__ = ["FILE", "SCHEMA", "export_classifier", "save_classifier"]
