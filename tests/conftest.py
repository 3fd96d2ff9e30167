import os

# Before anything imports torch: threads that wait for each other while other processes have the cores make a test of
# one second last a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = [
    "tests.fixtures.services",
    "tests.fixtures.hosts",
    "tests.fixtures.engine",
    "tests.fixtures.bed_finders",
    "tests.fixtures.pictures",
    "tests.fixtures.receivers",
    "tests.fixtures.tracking",
]
