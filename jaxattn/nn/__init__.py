"""Selectors, normalizers, encoders, predictors: pure functions and thin modules."""
