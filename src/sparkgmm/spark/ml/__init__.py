"""The estimator, the model and the evaluator of Spark ML pipelines.

Nothing is imported here: the executors import `vectors` from this package, and have numpy and
pyarrow alone.
"""
