"""A mixture written for other software, without Spark."""
