"""Monitor for MySQL and MariaDB replicas that are delayed on purpose."""

__version__ = "1.0.0"
