"""Losses as pure functions of tensors; the tasks decide what goes in."""
