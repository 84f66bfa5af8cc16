"""Compare with other software: spark-submit jobs/compare_gmm.py --config conf/compare.yaml."""

import sys

from sparkgmm.runs.cli import compare_main

if __name__ == "__main__":
    sys.exit(compare_main())
