"""One folder per model, all behind one small interface."""
