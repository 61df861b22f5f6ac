"""Scores from models whose encoder reads a prompt and whose decoder gives the label."""
