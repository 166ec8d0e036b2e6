"""The published X-Decoder seen from here: its names. The core knows nothing of this room."""
