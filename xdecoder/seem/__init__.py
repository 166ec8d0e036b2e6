"""What SEEM adds to the decoder: strokes as tokens, clicks and rounds, a memory (Zou et al., 2023)."""
