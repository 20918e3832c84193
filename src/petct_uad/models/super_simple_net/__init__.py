"""SuperSimpleNet: a classifier of feature vectors taught with noise in their place."""
