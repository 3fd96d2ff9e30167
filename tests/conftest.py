pytest_plugins = [
    "tests.fixtures.services",
    "tests.fixtures.hosts",
    "tests.fixtures.engine",
    "tests.fixtures.bed_finders",
    "tests.fixtures.pictures",
    "tests.fixtures.receivers",
    "tests.fixtures.tracking",
]
