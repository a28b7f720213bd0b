"""Speed and memory against their bounds: `python -m benchmarks [--quick] [--json FILE]`.

Speed decides no test: here it is measured, all in one run and on the same pictures, so that what
is compared ran on the same machine in the same minutes.
"""
