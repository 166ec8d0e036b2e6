"""Language: tokens, texts, prompts."""
