"""Fitted classifier without a prompt of its own ↔ a folder of JSON and safetensors.

``stored`` is the base of those that can be saved, and ``formats`` says what it asks of a format.
There are three: ``bag_of_words``, ``blends`` and ``wrappers``; ``learned`` describes each wrapper.
``parts`` are the classifiers inside, and ``records`` their values in ``classifier.json``.
"""
