"""Selectors, normalizers, encoders and predictors; attention of any Flax model."""
