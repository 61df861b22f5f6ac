"""The libraries and methods that instructclf is compared with, each at its best settings."""
