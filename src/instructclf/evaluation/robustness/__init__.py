"""Fitted classifier → how its answers change where they should not."""
