"""The score stage: a trained model over studies, to maps and scores."""
