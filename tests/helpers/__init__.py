"""What the tests share beside fixtures: data, builders, textbook formulas, jobs and servers."""
