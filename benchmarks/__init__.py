"""Speed and memory against their bounds: `python -m benchmarks [SECTION …]`.

Tests do not depend on timing. Everything is measured in one run and on the same images, so that
what is compared ran on the same machine at the same time.
"""
