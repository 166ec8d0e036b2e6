"""The shared transformer: who may look at whom, the layers, what is read off them, keys and values that are kept, captions."""
