"""The numerics: numpy only, no Spark."""
