"""Training and measuring: experiment settings, the loop, its checkpoints and logs. Used from the checkout, never installed."""
