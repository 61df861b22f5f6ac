"""What instructclf is measured against, each at its best settings."""
