"""MySQL and MariaDB, through asyncmy (`pip install 'linkly[mysql]'`)."""
