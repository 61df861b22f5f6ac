"""Fitted classifiers ↔ folders of JSON and safetensors, on disk and on the hub. No code in them.

``writing`` and ``reading`` are the two directions; ``json_values`` says which values a folder may
hold; ``schema_1`` converts folders of earlier versions.
"""
