"""Asking a network from other programs: tools for language models (MCP) and an HTTP interface for those who deploy."""
