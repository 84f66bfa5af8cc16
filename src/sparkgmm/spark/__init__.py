"""From a DataFrame to blocks, passes and files."""
